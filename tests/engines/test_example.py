"""The engine that ``docs/writing-an-engine.md`` shows is one."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

from bgadapters.engines import Engine
from tests.engines.bench import Away, Bench, until
from tests.engines.contract import EngineContract
from tests.running import ROOT

SNIPPETS = ROOT / "docs" / "snippets"
WORKER = """
import sys
from directory_engine import DirectoryEngine
from tests.engines.work import application

engine = DirectoryEngine(sys.argv[1])
application = application(engine)
print("works", flush=True)
engine.work()
"""


def engine_in(directory: Path, **given: Any) -> Engine:
    sys.path.insert(0, str(SNIPPETS))
    try:
        engine: Engine = import_module("directory_engine").DirectoryEngine(str(directory), **given)
    finally:
        sys.path.remove(str(SNIPPETS))
    return engine


class DirectoryBench(Bench):
    ways: ClassVar[Sequence[str]] = ("no directory",)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.place = directory / "tasks"
        self.place.mkdir()

    def engine(self, **given: Any) -> Engine:
        return engine_in(self.place, **given)

    @contextmanager
    def worker(self) -> Iterator[None]:
        python_path = f"{SNIPPETS}:{ROOT}"
        with self.process("-c", WORKER, str(self.place), PYTHONPATH=python_path):
            until(lambda: "works" in self.said(), self.said)
            yield

    @contextmanager
    def away(self, how: str, **given: Any) -> Iterator[Away]:
        elsewhere = self.place.with_name("elsewhere")
        self.place.rename(elsewhere)
        yield Away(self.engine(**given), lambda: elsewhere.rename(self.place))

    def waiting(self) -> int:
        return len(list(self.place.glob("*.json")))

    def forge(self, payload: str) -> str:
        name = uuid.uuid4().hex
        file = self.place / name
        file.write_text(json.dumps({"payload": payload, "due": 0, "attempt": 1}))
        file.rename(file.with_suffix(".json"))
        return name

    def has_failed(self, id: str) -> bool:  # noqa: A002
        return (self.place / f"{id}.failed").exists()


class TestContract(EngineContract):
    bench_type = DirectoryBench
