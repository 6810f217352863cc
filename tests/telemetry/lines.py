"""What a server's process tells the test: lines of JSON in a file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

VARIABLE = "BGADAPTERS_TEST_LINES"
_PATIENCE = 20.0

Line = dict[str, Any]


def put(kind: str, **what: Any) -> None:
    """Write a line, in the process of the server; in one call, as threads and workers share it."""
    line = json.dumps({"kind": kind, **what}, default=str) + "\n"
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


class Lines:
    """The lines of a server, in the process of the test."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "lines.jsonl"
        self.path.touch()

    @property
    def environ(self) -> dict[str, str]:
        """What the server needs, so that it writes here."""
        return {VARIABLE: str(self.path)}

    def all(self, kind: str, **what: Any) -> list[Line]:
        """Those of a kind in which the values given are as given."""
        found = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [
            line
            for line in found
            if line["kind"] == kind and all(line.get(key) == what[key] for key in what)
        ]

    def wait_for(self, kind: str, count: int = 1, **what: Any) -> list[Line]:
        """Wait until there are so many of a kind."""

        def look() -> list[Line]:
            found = self.all(kind, **what)
            return found if len(found) >= count else []

        return self.wait_until(look)

    def wait_until(self, look: Callable[[], list[Line]]) -> list[Line]:
        """Wait until ``look`` finds something."""
        deadline = time.monotonic() + _PATIENCE
        while not (found := look()):
            assert time.monotonic() < deadline, f"all that came:\n{self.path.read_text()}"
            time.sleep(0.02)
        return found
