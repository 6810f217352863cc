"""One event log for a test and the servers it starts: every event in the order it happened.

A process reports an event over a socket and goes on when the log has answered. The answer
to an event that is held comes only when the test opens its gate: so a task can be kept
running for as long as a test needs, without anybody sleeping.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

_PORT = "BGADAPTERS_TEST_EVENTS_PORT"


class Event(NamedTuple):
    """Something that happened while the server worked on the request ``run``."""

    run: str
    what: str
    data: str = ""


class EventLog:
    """The log itself, kept by the test process."""

    def __init__(self) -> None:
        self.patience = 20.0  # seconds after which an event that does not come is a failure
        self._changed = threading.Condition()
        self._events: list[Event] = []  # guarded by _changed
        # one log hears of thousands of runs, and who waits looks again at each event
        self._of_run: defaultdict[str, list[Event]] = defaultdict(list)  # guarded by _changed
        self._closed_gates: set[str] = set()  # of these runs tasks are held; guarded by _changed
        log = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                log._take(Event(*json.loads(self.rfile.readline())))
                self.wfile.write(b"\n")

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        # A daemon, or tests of what is left over would find it in this process.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()
        self.environ = {_PORT: str(self._server.server_address[1])}

    def close(self) -> None:
        """Let everybody go and stop listening."""
        with self._changed:
            self._closed_gates.clear()
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def hold(self, run: str) -> None:
        """Keep the tasks of a request at their start until `let_go`."""
        with self._changed:
            self._closed_gates.add(run)

    def let_go(self, run: str) -> None:
        """Let the tasks of a request go on."""
        with self._changed:
            self._closed_gates.discard(run)
            self._changed.notify_all()

    def of(self, run: str) -> list[Event]:
        """What has happened for a request so far."""
        with self._changed:
            return list(self._of_run[run])

    def whats(self, run: str) -> list[str]:
        """The names of what has happened for a request so far."""
        return [event.what for event in self.of(run)]

    def wait(self, run: str, *whats: str) -> None:
        """Wait until all of these have happened for a request."""

        def happened() -> bool:
            return set(whats) <= {event.what for event in self._of_run[run]}

        self.wait_until(happened, f"{', '.join(whats)} of {run}")

    def wait_for_two(self, run: str, what: str) -> None:
        """Wait until this has happened twice for a request."""

        def happened() -> bool:
            return len([event for event in self._of_run[run] if event.what == what]) == 2

        self.wait_until(happened, f"{what} of {run}, twice,")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until a condition on the events holds."""
        with self._changed:
            if not self._changed.wait_for(condition, self.patience):
                happened = "\n".join(str(event) for event in self._events[-30:])
                raise AssertionError(f"{what} did not happen; the last events were\n{happened}")

    def duplicates(self) -> list[Event]:
        """The tasks that started more than once."""
        with self._changed:
            starts = [event for event in self._events if event.what.startswith("start ")]
        times = Counter(event[:2] for event in starts)
        return [event for event in starts if times[event[:2]] > 1]

    def _take(self, event: Event) -> None:
        with self._changed:
            self._events.append(event)
            self._of_run[event.run].append(event)
            self._changed.notify_all()
            if event.what.startswith("start "):
                self._changed.wait_for(lambda: event.run not in self._closed_gates)


def report(run: str, what: str, data: object = "") -> None:
    """Report an event from a server's process, and wait while it is held."""
    with socket.create_connection(("127.0.0.1", int(os.environ[_PORT]))) as connection:
        connection.sendall(_line(run, what, data))
        _wait(connection)


def _wait(connection: socket.socket) -> None:
    connection.recv(1)


def until_one_waits() -> None:
    """Wait until a thread of this process waits in `report`, and so runs no Python."""
    while all(frame.f_code is not _wait.__code__ for frame in sys._current_frames().values()):
        time.sleep(0.001)  # nobody tells


async def areport(run: str, what: str, data: object = "") -> None:
    """Do as `report`, without blocking the event loop."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(os.environ[_PORT]))
    writer.write(_line(run, what, data))
    await reader.read(1)
    writer.close()
    await writer.wait_closed()


def _line(*values: Any) -> bytes:
    return json.dumps([str(value) for value in values]).encode() + b"\n"
