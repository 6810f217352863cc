"""Where the probe of one request reports, and where its gates are opened."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self


class Visit:
    """What the probe's tasks in one queue have reported. A request should open one queue."""

    def __init__(self) -> None:
        self.reports: list[dict[str, Any]] = []
        self.is_over = False  # nothing is left of the queue that could still report

    def count(self, what: str) -> int:
        """How often this was reported."""
        return sum(report["what"] == what for report in self.reports)

    def fact(self, what: str, name: str) -> Any:
        """A fact of a report, None if it did not come."""
        for report in self.reports:
            if report["what"] == what:
                return report[name]
        return None


class Listener:
    """Listens on a port of this machine alone, for as long as a request is checked."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._visits: list[Visit] = []  # guarded by _changed, as what is in them
        self._connections: list[socket.socket] = []  # guarded by _changed
        self._opened = b""  # the gates that are open; guarded by _changed
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # a mere close leaves accept() waiting
        self._socket.close()
        with self._changed:
            for connection in self._connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def open(self, gate: bytes) -> None:
        """Let the probe's tasks pass a gate, at once or when they come to it."""
        with self._changed:
            self._opened += gate
            for connection in self._connections:
                with suppress(OSError):
                    connection.sendall(gate)

    def visits(self) -> list[Visit]:
        """The visits so far: of whoever is no probe, and has come to this port, there is none."""
        with self._changed:
            return [visit for visit in self._visits if visit.reports]

    def saw(self, what: str, patience: float) -> bool:
        """Wait for a report of any visit, no longer than until all of them are over."""

        def seen() -> bool:
            return any(visit.count(what) for visit in self._visits)

        def decided() -> bool:
            probes = [visit for visit in self._visits if visit.reports]
            return seen() or (bool(probes) and all(visit.is_over for visit in probes))

        return self._wait(decided, patience) and seen()

    def finished(self, patience: float) -> bool:
        """Wait until no visit has anything left to report."""
        return self._wait(lambda: all(visit.is_over for visit in self._visits), patience)

    def _wait(self, condition: Callable[[], bool], patience: float) -> bool:
        with self._changed:
            return self._changed.wait_for(condition, patience)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            visit = Visit()
            with self._changed:
                self._visits.append(visit)
                self._connections.append(connection)
                with suppress(OSError):
                    connection.sendall(self._opened)
                self._changed.notify_all()
            threading.Thread(target=self._read, args=(connection, visit), daemon=True).start()

    def _read(self, connection: socket.socket, visit: Visit) -> None:
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            for line in lines:
                report = _report(line)
                with self._changed:
                    if report is None:
                        self._visits.remove(visit)
                        break
                    visit.reports.append(report)
                    self._changed.notify_all()
        with self._changed:
            self._connections.remove(connection)
            visit.is_over = True
            self._changed.notify_all()


def _report(line: bytes) -> dict[str, Any] | None:
    """Return what a probe has reported; None if this is no report of a probe."""
    try:
        report = json.loads(line)
    except ValueError:
        return None
    return report if isinstance(report, dict) and "what" in report else None
