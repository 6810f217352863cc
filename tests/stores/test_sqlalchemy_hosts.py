"""Durable tasks in PostgreSQL, on real servers: as if these were two machines."""

from __future__ import annotations

import os
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from urllib.error import HTTPError

import pytest

from bgadapters.stores.sqlalchemy import SQLAlchemyStore
from tests.durable import work
from tests.running import Running, running
from tests.stores.sql_databases import needs_postgresql, url_of

pytestmark = [pytest.mark.host, needs_postgresql]
PATIENCE = 60.0


class Place:
    """A database with tasks, and the journal of what has run."""

    def __init__(self, directory: Path, store: str) -> None:
        self.directory = directory
        self.store = store
        self.journal = directory / "journal"
        self.journal.touch()

    def serving(self, name: str) -> AbstractContextManager[Running]:
        directory = self.directory / name
        directory.mkdir()
        command = ["{bin}/uvicorn", "tests.stores.fastapi_app:application", "--port", "{port}"]
        environ = {work.STORE: self.store, work.JOURNAL: str(self.journal)}
        return running(directory, *command, **environ)

    def lines(self, kind: str) -> list[work.Line]:
        return [line for line in work.lines(self.journal) if line.kind == kind]

    def wait_for(self, kind: str, names: set[str]) -> None:
        """Wait until these have started or ended: other processes tell of it by a file alone."""
        deadline = time.monotonic() + PATIENCE
        while not names <= {line.name for line in self.lines(kind)}:
            assert time.monotonic() < deadline, f"{kind} of {names}: {self.lines(kind)}"
            time.sleep(0.05)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with url_of("postgresql", tmp_path) as url:
        yield Place(tmp_path, url)


def get(server: Running, path: str) -> None:
    urllib.request.urlopen(f"{server.url}{path}", timeout=PATIENCE).close()


def test_what_a_killed_machine_had_another_one_runs(place: Place, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    names = {f"task{number}" for number in range(12)}  # more than there are workers
    with place.serving("one") as one, place.serving("two") as two:
        for name in names:
            get(one, f"/plain?name={name}&gate={gate}")
        assert SQLAlchemyStore(place.store).count() == {"waiting": 12, "failed": 0}
        os.killpg(one.process.pid, signal.SIGKILL)
        one.process.wait()
        gate.touch()
        place.wait_for("end", names)
        ended = place.lines("end")
        assert {line.pid for line in ended} == {two.process.pid}
        assert len(ended) == len(names)
    assert SQLAlchemyStore(place.store).count() == {"waiting": 0, "failed": 0}


def test_sessions_on_a_server(place: Place) -> None:
    with place.serving("one") as server:
        for way in ("session", "async"):
            for number in range(5):
                get(server, f"/{way}?name={way}{number}&fails=false")
                with suppress(HTTPError):
                    get(server, f"/{way}?name={way}{number}-fails&fails=true")
        names = {f"{way}{number}" for way in ("session", "async") for number in range(5)}
        place.wait_for("end", names)
    assert {line.name for line in place.lines("start")} == names
    assert SQLAlchemyStore(place.store).count() == {"waiting": 0, "failed": 0}
