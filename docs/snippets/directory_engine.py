import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bgadapters.engines import Engine, EngineUnavailableError, Message, RetryLater


class DirectoryEngine(Engine):
    """Tasks are files in a directory that web processes and workers share."""

    abilities = frozenset({"retries", "delay", "timeout"})

    def __init__(self, directory: str, **given: Any):
        super().__init__(**given)
        self.directory = Path(directory)

    def send(self, message: Message):
        self._write(message.id, {"payload": message.payload, "due": message.due or 0, "attempt": 1})

    def _write(self, name: str, task: Mapping[str, Any]):
        file = self.directory / name
        try:
            with file.open("w") as new:
                json.dump(task, new)
                new.flush()
                os.fsync(new.fileno())  # it survives a loss of power
            file.rename(file.with_suffix(".json"))  # workers see all of it, or nothing
        except OSError as exc:
            raise EngineUnavailableError(f"{self.directory}: {exc}") from exc

    def work(self):
        """Run what is due, in the process of a worker; SIGTERM ends it."""
        while True:
            for file in sorted(self.directory.glob("*.json"), key=os.path.getmtime):
                task = json.loads(file.read_text())
                if task["due"] <= time.time():
                    self._run(file, task)
            time.sleep(0.05)

    def _run(self, file: Path, task: Mapping[str, Any]):
        running = file.rename(file.with_suffix(".running"))
        try:
            self.run(task["payload"], task["attempt"])
        except RetryLater as exc:
            due, attempt = time.time() + exc.seconds, task["attempt"] + 1
            self._write(file.stem, {**task, "due": due, "attempt": attempt})
        except BaseException as exc:
            running.rename(file.with_suffix(".failed"))
            print(f"{file.stem} has failed: {exc!r}", file=sys.stderr)
        running.unlink(missing_ok=True)
