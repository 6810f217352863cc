"""What its durable tasks call."""

from __future__ import annotations

import os
import time

from bgadapters import task_options


@task_options(durable=True)
def write(number: int) -> None:
    """Work for a while, then write down that it was done."""
    time.sleep(0.15)
    line = os.open(os.environ["DONE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(line, f"{number}\n".encode())
    os.close(line)
