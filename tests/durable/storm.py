"""Requests by the hundred to a server that is killed meanwhile, and what became of their tasks."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple, Self

from bgadapters.stores import StoredTasks
from tests.durable.work import JOURNAL, STORE, Line, lines
from tests.hosts.client import Broken, Client
from tests.running import Running, running

PATIENCE = 60.0
GTHREAD = (
    *("{bin}/gunicorn", "--worker-class", "gthread", "--workers", "2", "--threads", "8"),
    *("--bind", "127.0.0.1:{port}", "--graceful-timeout", "15", "--log-level", "warning"),
    "tests.durable.flask_app:application",
)
UVICORN = (
    *("{bin}/uvicorn", "--workers", "2", "--port", "{port}", "--log-level", "warning"),
    "tests.durable.fastapi_app:application",
)
ONE_PROCESS = tuple(part for part in UVICORN if part not in ("--workers", "2"))
SERVERS = {"gthread": GTHREAD, "uvicorn": UVICORN}
JUST_ENDED = 1.0
"""Seconds before its process was killed within which a task that had ended may run again: what
is written lazily had not been written yet, on a busy machine."""


class Place:
    """A directory with a store and a journal, which several servers use one after the other."""

    def __init__(self, directory: Path, synchronous: str = "FULL") -> None:
        self.directory = directory
        self.file = directory / "tasks.db"
        self.url = f"sqlite:///{self.file}?synchronous={synchronous}"
        self.journal = directory / "journal"
        self.journal.touch()
        self.stored = StoredTasks(self.url)

    @contextmanager
    def serving(self, *command: str, **environ: str) -> Iterator[Running]:
        """Start a server that keeps its tasks here."""
        environ = {STORE: self.url, JOURNAL: str(self.journal), **environ}
        with running(self.directory, *command, **environ) as server:
            yield server

    def lines(self) -> list[Line]:
        """What the tasks have written."""
        return lines(self.journal)

    def log(self) -> str:
        """What the last server has logged, its end."""
        return (self.directory / "server.log").read_text()[-4000:]

    def ended(self) -> set[str]:
        """The names of the tasks that have ended."""
        return {line.name for line in self.lines() if line.kind == "end"}

    def wait_until(self, is_so: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Wait for what files tell; they have no way to say that they have changed."""
        deadline = time.monotonic() + patience
        while not is_so():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.02)

    def wait_until_empty(self, patience: float = PATIENCE) -> None:
        """Wait until no task waits."""
        self.wait_until(lambda: self.stored.count()["waiting"] == 0, patience)


class Storm:
    """Clients that ask for a task each, and note which responses were complete.

    A context manager: its block ends once so many were asked for, or `stop` was called.

    Args:
        port: whom they ask.
        total: how many requests.
        query: what is asked for beside a name.
    """

    def __init__(self, port: int, total: int, query: str = "", threads: int = 8) -> None:
        self._port, self._total, self._query = port, total, query
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._stopped = False
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        self.answered: dict[str, int] = {}  # by whom; guarded by _changed
        self.broken = 0

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True

    def wait_for(self, answered: int) -> None:
        """Wait until so many responses were complete."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.answered) >= answered, PATIENCE)

    def _work(self) -> None:
        with Client(self._port) as client:
            while not self._stopped and (number := next(self._numbers)) < self._total:
                name = str(number)
                try:
                    response = client.request("GET", f"/task?name={name}{self._query}")
                    pid = int(response.body) if response.status == 200 else 0
                except (OSError, Broken, IndexError, ValueError):  # it ended within a line
                    pid = 0
                    client.close()
                with self._changed:
                    if pid:
                        self.answered[name] = pid
                    else:
                        self.broken += 1
                    self._changed.notify_all()
                if not pid:
                    time.sleep(0.01)  # a server that refuses connections says not until when


class Outcome(NamedTuple):
    """What became of the tasks of a storm."""

    answered: int
    broken: int
    ran: int
    twice: int

    def __str__(self) -> str:
        return (
            f"{self.answered} answered, {self.broken} not; {self.ran} tasks ran, "
            f"{self.twice} of them twice"
        )


def judge(storm: Storm, place: Place, kills: list[float]) -> Outcome:
    """Check that every answered task ran, and that only those ran twice which a kill has met.

    Args:
        storm: the requests.
        place: where the tasks have written what they did.
        kills: when processes were killed.
    """
    of: dict[str, list[Line]] = defaultdict(list)
    for line in place.lines():
        of[line.name].append(line)
    ended = {name for name, each in of.items() if any(line.kind == "end" for line in each)}
    lost = storm.answered.keys() - ended
    assert not lost, f"answered, and never ran: {lost}\n{place.log()}"
    twice = {name: each for name, each in of.items() if [e.kind for e in each].count("start") > 1}
    for name, each in twice.items():
        assert _was_met(each, kills), f"ran twice without a kill: {name}: {each}, {kills}"
    return Outcome(len(storm.answered), storm.broken, len(ended), len(twice))


def _was_met(each: list[Line], kills: list[float]) -> bool:
    """Whether all runs but the last were met by a kill: while they ran, or just after."""
    runs: list[list[Line]] = []
    for line in sorted(each, key=lambda line: line.at):
        if line.kind == "start":
            runs.append([line])
        else:
            runs[-1].append(line)
    return all(
        any(run[0].at <= at and (len(run) == 1 or at - run[-1].at < JUST_ENDED) for at in kills)
        for run in runs[:-1]
    )


def kill(*pids: int) -> float:
    """Kill processes; return when."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return time.monotonic()


def kill_all(server: Running) -> float:
    """Kill a server with all its processes; return when."""
    os.killpg(server.process.pid, signal.SIGKILL)
    return time.monotonic()


def ask(server: Running, *queries: str) -> None:
    """Add tasks, each by a request of its own that is answered well."""
    with Client(server.port) as client:
        for query in queries:
            assert client.request("GET", f"/task?{query}").status == 200
