"""A site whose tasks go to Procrastinate, and whose processes and database fail."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import procrastinate
import psycopg
import pytest

from tests.durable.storm import PATIENCE, Storm, kill, kill_all
from tests.durable.work import JOURNAL, STORE, lines
from tests.engines.procrastinate_database import (
    Database,
    database,
    needs_postgresql,
    proxied,
)
from tests.hosts.client import Client
from tests.running import ROOT, Running, running

pytestmark = [pytest.mark.host, pytest.mark.slow, needs_postgresql]

SETTINGS = "tests.engines.procrastinate_site.settings"
SERVER = (
    *("{bin}/gunicorn", "--worker-class", "gthread", "--workers", "2", "--threads", "8"),
    *("--bind", "127.0.0.1:{port}", "--graceful-timeout", "15", "--log-level", "warning"),
    *("--preload", f"{SETTINGS}:wsgi()"),
)
SURE = "before", "durable", "transaction"


class Site:
    """The site, its database, and the journal of its tasks.

    Args:
        directory: where the journal and the logs are.
        database: where its jobs are.
    """

    def __init__(self, directory: Path, database: Database) -> None:
        self.directory = directory
        self.database = database
        self.journal = directory / "journal"
        self.journal.touch()
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute("CREATE TABLE orders (name text)")

    def environ(self, url: str | None = None) -> dict[str, str]:
        return {
            "TEST_DATABASE": url or self.database.url,
            "DJANGO_SETTINGS_MODULE": SETTINGS,
            STORE: f"sqlite:///{self.directory}/tasks.db",
            JOURNAL: str(self.journal),
        }

    @contextmanager
    def serving(self, url: str | None = None, **environ: str) -> Iterator[Running]:
        """Start the server."""
        with running(self.directory, *SERVER, **self.environ(url), **environ) as server:
            yield server

    @contextmanager
    def working(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a worker of Procrastinate."""
        command = [sys.executable, "-m", "django", "procrastinate", "worker", *arguments]
        with (self.directory / "worker.log").open("ab") as log:
            worker = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, **self.environ()}, stdout=log, stderr=log
            )
        try:
            yield worker
        finally:
            worker.kill()
            worker.wait()

    def work_off(self) -> None:
        """Run what waits."""
        with self.working("--one-shot") as worker:
            assert worker.wait(PATIENCE) == 0, self.log("worker")

    def log(self, whose: str = "server") -> str:
        return (self.directory / f"{whose}.log").read_text()[-4000:]

    def ran(self) -> Counter[str]:
        """How often each task has run."""
        return Counter(line.name for line in lines(self.journal) if line.kind == "end")

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what a database or a file tells."""
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert time.monotonic() < deadline, self.log() + self.log("worker")
            time.sleep(0.05)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with database() as made:
        yield Site(tmp_path, made)


def ask(server: Running, path: str) -> tuple[int, str]:
    with Client(server.port) as client:
        response = client.request("GET", path)
        return response.status, response.body.decode()


def test_all_ways_and_transactions(site: Site) -> None:
    with site.serving() as server:
        for how in ("after", *SURE):
            assert ask(server, f"/task?name={how}&how={how}")[0] == 200
        assert ask(server, "/task?name=undone&how=transaction&rollback=1")[0] == 200
        assert ask(server, "/twice")[0] == 200
        said = ask(server, "/without-transaction")[1]
        assert "found no open transaction in the database 'default'" in said
        site.wait_until(lambda: len(site.database.statuses()) == 5)
    site.work_off()
    assert site.ran() == Counter(dict.fromkeys(("after", *SURE, "twice"), 1))
    assert site.database.all("SELECT name FROM orders") == [("transaction",), ("twice",)]


@pytest.mark.parametrize("how", ["after", *SURE])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_that_is_killed(site: Site, how: str, seed: int) -> None:
    choice, total = random.Random(f"{how} {seed}"), 300
    with site.serving() as server, Storm(server.port, total, f"&how={how}") as storm:
        storm.wait_for(choice.randrange(total // 10, total * 8 // 10))
        time.sleep(choice.uniform(0, 0.02))  # somewhere within a request
        kill(choice.choice(list(storm.answered.values())))
        storm.wait_for(len(storm.answered) + 5)
        kill_all(server)
        storm.stop()
    with site.serving():  # which sends what was kept
        site.work_off()
        if how == "durable":
            site.wait_until(lambda: not storm.answered.keys() - known(site))
    site.work_off()
    ran = site.ran()
    lost = storm.answered.keys() - ran.keys()
    twice = [name for name, count in ran.items() if count > 1]
    print(f"\n{how}: {len(storm.answered)} answered, {len(lost)} lost, {len(twice)} ran twice")
    if how in SURE:
        assert not lost, site.log()
    if how != "durable":  # of those one may have been sent whose row was there still
        assert not twice
    if how == "transaction":
        assert {name for (name,) in site.database.all("SELECT name FROM orders")} == ran.keys()


def known(site: Site) -> set[str]:
    """The names of the tasks that are jobs, whatever became of these."""
    found = site.database.all("SELECT (args->>'payload')::json->'a'->>0 FROM procrastinate_jobs")
    return {name for (name,) in found}


def test_a_worker_that_is_killed_leaves_its_job_behind(site: Site) -> None:
    """Procrastinate does not run it again by itself; what it says of stalled jobs does."""
    gate = site.directory / "gate"
    with site.serving() as server:
        assert ask(server, f"/task?name=a&how=before&gate={gate}")[0] == 200
    with site.working() as worker:
        site.wait_until(lambda: len(lines(site.journal)) == 1)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait()
    gate.touch()
    assert site.database.statuses() == ["doing"]
    site.work_off()
    assert site.database.statuses() == ["doing"]
    connector = procrastinate.SyncPsycopgConnector(conninfo=site.database.url, min_size=1)
    app = procrastinate.App(connector=connector)
    with app.open():
        (job_id,) = site.database.all("SELECT id FROM procrastinate_jobs")[0]
        app.job_manager.retry_job_by_id(job_id, retry_at=None)  # type: ignore[arg-type]
    site.work_off()
    assert site.database.statuses() == ["succeeded"]
    assert site.ran() == Counter({"a": 1})


@pytest.mark.parametrize("how", ["after", "before"])
def test_a_database_that_is_away_for_a_while(site: Site, how: str) -> None:
    """What was answered is not lost. After the response there is patience; before it there is 503.

    A transaction of that database could not be committed either.
    """
    with proxied(site.database) as proxy, site.serving(proxy.url) as server:
        with Storm(server.port, 10_000, f"&how={how}", threads=4) as storm:
            storm.wait_for(50)
            proxy.go_away()
            time.sleep(1.0)
            if how == "before":
                assert ask(server, "/task?name=refused&how=before")[0] == 503, site.log()
            proxy.come_back()
            storm.wait_for(len(storm.answered) + 50)
            storm.stop()
        site.wait_until(lambda: not storm.answered.keys() - known(site))
    print(f"\n{how}: {len(storm.answered)} answered, {storm.broken} refused")
    assert (storm.broken > 0) == (how == "before"), site.log()


def test_a_slow_database_is_in_nobodys_way(site: Site) -> None:
    """While nothing can be sent, responses with tasks for after them are as fast as ever."""
    with site.serving() as server:
        ask(server, "/task?name=first&how=after")
        with psycopg.connect(site.database.url) as connection:
            site.wait_until(lambda: site.database.statuses() == ["todo"])
            connection.execute("LOCK TABLE procrastinate_jobs IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            for number in range(20):
                assert ask(server, f"/task?name={number}&how=after")[0] == 200
            assert time.monotonic() - began < 4.0  # less than the timeout: nobody has waited
        site.wait_until(lambda: len(site.database.statuses()) == 21)
