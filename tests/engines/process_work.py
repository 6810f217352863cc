"""What the tasks of test_process do, in processes of their own; they note it in a file."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from bgadapters import NoRetry, Retry, enqueue

begun: list[str] = []
scope: ContextVar[str] = ContextVar("scope", default="none")


def note(path: str, *what: Any) -> None:
    with open(path, "a") as file:
        file.write(json.dumps([os.getpid(), *what]) + "\n")


def notes(path: Path) -> list[list[Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def enqueue_more(path: str) -> None:
    enqueue(note_and_burn, path, 0.3)


async def anote(path: str, what: str) -> None:
    await asyncio.sleep(0.01)
    note(path, what)


def burn(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


def note_and_burn(path: str, seconds: float) -> None:
    note(path, "begun")
    burn(seconds)
    note(path, "ended")


def keep_the_lock(path: str) -> None:
    """In C, where no other thread of this process gets its turn."""
    import re

    note(path, "begun")
    re.match(r"(a+)+$", "a" * 60 + "b")


def start_another_and_sleep(path: str, seconds: float) -> None:
    sleeper = [sys.executable, "-c", f"import time; time.sleep({seconds})"]
    note(path, subprocess.Popen(sleeper).pid)
    time.sleep(seconds)


def start_another_and_die(path: str) -> None:
    """It is forked, and outlives this process: what it has inherited is nobody's connection."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        time.sleep(60)
        os._exit(0)
    note(path, pid)
    os._exit(7)


def end(status: int) -> None:
    os._exit(status)


def end_at_first(path: str) -> None:
    note(path, "tried")
    if len(notes(Path(path))) < 2:
        os._exit(1)


def kill(signum: int) -> None:
    os.kill(os.getpid(), signum)


def crash() -> None:
    ctypes.string_at(0)


def send_signals_to_all() -> None:
    """As a terminal does, and a supervisor."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.killpg(os.getpgrp(), signum)


class OddError(ValueError):
    """It cannot be made of what it has as arguments."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")
        self.first = first


class Unpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("it holds a function")
        self.held = lambda: None


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it has no text")


class Hostile(Exception):
    """What is asked of it raises what would end a process."""

    def __str__(self) -> str:
        raise SystemExit(3)

    def __reduce__(self) -> str:
        raise KeyboardInterrupt


class OwnNew(ValueError):
    """None can be made without what it is made with, and it holds a function."""

    def __new__(cls, held: object) -> Self:  # pyright: ignore[reportInconsistentConstructor]
        return super().__new__(cls, held)


RAISED: dict[str, Any] = {
    "ValueError": lambda: ValueError("bad", 1),
    "FileNotFoundError": lambda: FileNotFoundError(2, "no such file", "a.txt"),
    "OddError": lambda: OddError("one", "other"),
    "Unpicklable": Unpicklable,
    "Untold": Untold,
    "Hostile": Hostile,
    "OwnNew": lambda: OwnNew(lambda: None),
    "group": lambda: ExceptionGroup("several", [Unpicklable()]),
    "endless": lambda: ValueError("x" * 9_000_000),
    "NoRetry": lambda: NoRetry("for good"),
    "Retry": lambda: Retry("later", delay=0.0),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "lines": lambda: ValueError("first\nTraceback (most recent call last):\nERROR second"),
    "large": lambda: ValueError("x" * 2_000_000),
}


def fail(kind: str) -> None:
    made: BaseException = RAISED[kind]()
    raise made


def fail_with_a_class_of_its_own() -> None:
    """The module of the class is imported here alone."""
    from tests.engines.process_rare import RareError

    raise RareError("rare")


def fail_each_time(path: str, kind: str) -> None:
    note(path, kind)
    fail(kind)


def set_up() -> Any:
    begun.append("begun")

    @contextmanager
    def entered() -> Iterator[None]:
        token = scope.set(f"entered {len(begun)}")
        yield
        scope.reset(token)

    return entered


def set_up_nothing() -> None:
    begun.append("begun")


def set_up_badly() -> None:
    raise LookupError("no settings")


def set_up_slowly() -> None:
    time.sleep(60)


def note_scope(path: str) -> None:
    note(path, scope.get())


async def anote_scope(path: str) -> None:
    note(path, scope.get())


def note_files(path: str) -> None:
    """Which descriptors are open here."""
    files = os.listdir("/proc/self/fd")
    note(path, [os.readlink(f"/proc/self/fd/{each}") for each in files if _is_open(each)])


def _is_open(number: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{number}")


def ask_database(path: str) -> None:
    """Note the language, and whether the connection is the first of this process."""
    from django.contrib.auth import get_user_model
    from django.db import connection
    from django.utils import translation

    was_open = connection.connection is not None
    with connection.cursor() as cursor:
        cursor.execute("select 1")
    name = get_user_model()._meta.label  # the application's models are loaded
    note(path, name, translation.get_language(), was_open)


def end_somehow(path: str, number: int, seed: int) -> None:
    """Note that it runs, and return, raise, or end this process in one way or another."""
    note(path, number)
    burn(0.002)
    ways: list[Callable[[], object]] = [
        lambda: end(1),
        lambda: kill(int(signal.SIGKILL)),
        crash,
        lambda: fail("ValueError"),
    ]
    chance = random.Random(f"{seed} {number}").random() * 16
    if chance < len(ways):
        ways[int(chance)]()
    elif chance < len(ways) + 1:
        burn(60)
