"""Other processes with a store, as a test sees them: they live, stand still, and die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bgadapters.core.outbox.urls import store_of
from bgadapters.stores import Change, Row, Store

_ROOT = Path(__file__).parents[2]


def until(is_so: Callable[[], object], patience: float = 10.0) -> None:
    """Wait for what nobody tells: that a thread waits for a lock, or a lease has run out."""
    deadline = time.monotonic() + patience
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Place(NamedTuple):
    """Where tasks are kept, as all processes of a test have it.

    Attributes:
        setting: the setting ``store``.
        prepare: ``"module:function"``, which is called first in another process.
        patience: seconds until a process that was killed counts as dead, at most.
    """

    setting: str
    prepare: str = ""
    patience: float = 0.0

    def store(self) -> Store:
        """Make a store in this process; it is not open."""
        return store_of(self.setting)


class Other:
    """Another process with a store, which is called as that store is.

    Args:
        place: where it keeps tasks.
    """

    def __init__(self, place: Place) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.process", place.setting, place.prepare],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name: str, *args: Any) -> None:
        """Call a method, and go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, args]) + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what it returned."""
        assert self.process.stdout is not None
        raised, result = json.loads(self.process.stdout.readline())
        assert not raised, f"{raised}: {result}"
        return result

    def call(self, name: str, *args: Any) -> Any:
        """Call a method, and wait for what it returned."""
        self.ask(name, *args)
        return self.answer()

    def open(self, owner: str) -> None:
        self.call("open", owner)

    def write(self, rows: Sequence[Row] = (), changes: Sequence[Change] = ()) -> list[str]:
        return list(self.call("write", rows, changes))

    def begin(self, task_id: str) -> bool:
        return bool(self.call("begin", task_id))

    def take_over(self, limit: int = 100) -> list[Row]:
        return [Row(*row) for row in self.call("take_over", limit)]

    def close(self) -> None:
        self.call("close")

    def kill(self) -> None:
        """End it as the kernel does; return when it has ended."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Have it stand still; return when it does."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.process.pid, os.WSTOPPED | os.WNOWAIT)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def dispose(self) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
