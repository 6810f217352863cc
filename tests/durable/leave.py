"""Leaves tasks behind in a store, as a process that was killed does: ``leave.py URL NUMBER``."""

from __future__ import annotations

import os
import signal
import sys
import time

from bgadapters.stores import Row
from bgadapters.stores.sqlite import SQLiteStore

if __name__ == "__main__":
    url, total = sys.argv[1], int(sys.argv[2])
    store = SQLiteStore(url)
    store.open("left")
    now = time.time()
    payload = '{"f":"tests.durable.work:work","a":["%d",0]}'
    store.write(
        [
            Row(f"id-{number}", f"queue-{number // 10}", number % 10, now, payload % number, "work")
            for number in range(total)
        ],
        [],
    )
    os.kill(os.getpid(), signal.SIGKILL)
