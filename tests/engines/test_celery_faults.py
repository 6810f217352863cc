"""Servers, workers and brokers of Celery that are killed, cut off or slow; prints counts."""

from __future__ import annotations

import os
import random
import signal
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.durable.storm import GTHREAD, Place, Storm, ask, kill_all
from tests.durable.work import JOURNAL, STORE
from tests.engines.bench import until
from tests.engines.celery_benches import RabbitMQBench, is_there
from tests.engines.celery_worker import BROKER, FAULTS, QUEUE
from tests.engines.proxy import Proxy
from tests.hosts.client import Client
from tests.running import Running

pytestmark = [
    pytest.mark.host,
    pytest.mark.slow,
    pytest.mark.skipif(not is_there(RabbitMQBench.its_port), reason="no RabbitMQ at port 5672"),
]
SERVER = (*GTHREAD[:-1], "tests.engines.celery_fault_app:app")


class Site:
    """A server and workers with RabbitMQ between them, and a proxy before that.

    Args:
        bench: the queue.
        proxy: what the server takes for RabbitMQ.
    """

    def __init__(self, bench: RabbitMQBench, proxy: Proxy) -> None:
        self.bench = bench
        self.proxy = proxy
        self.place = Place(bench.directory)

    def _environ(self, port: int) -> dict[str, str]:
        return {
            BROKER: self.bench.url.format(port),
            QUEUE: self.bench.queue,
            FAULTS: str(self.bench.directory),
            STORE: self.place.url,
            JOURNAL: str(self.place.journal),
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        }

    @contextmanager
    def server(self) -> Iterator[Running]:
        """A server whose broker is behind the proxy."""
        with self.place.serving(*SERVER, **self._environ(self.proxy.port)) as server:
            yield server

    @contextmanager
    def worker(self, port: int | None = None) -> Iterator[int]:
        """A worker of four processes; what is yielded is its process group."""
        app = "tests.engines.celery_fault_app:celery_app"
        options = ("-c", "4", "-n", f"{self.bench.queue}@%h", "--without-mingle", "-l", "WARNING")
        environ = self._environ(port or self.bench.port)
        with self.bench.process("-m", "celery", "-A", app, "worker", *options, **environ) as it:
            yield it.pid

    def starts(self) -> Counter[str]:
        return Counter(line.name for line in self.place.lines() if line.kind == "start")

    def wait_until_all_ran(self) -> None:
        """Wait until the store and the queue are empty, and nothing runs."""
        self.place.wait_until_empty()
        until(lambda: not self.bench.waiting())
        until(self._is_quiet)

    def _is_quiet(self) -> bool:
        """Whether nothing has happened for a while; a worker does not tell that it has nothing."""
        before = len(self.place.lines())
        time.sleep(1.5)
        return len(self.place.lines()) == before and not self.bench.waiting()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    bench = RabbitMQBench(tmp_path)
    with Proxy(bench.port) as proxy:
        yield Site(bench, proxy)
    bench.close()


def report(what: str, storm: Storm, site: Site) -> set[str]:
    """Print counts; return the names of the tasks that were answered and have not run."""
    ended = site.place.ended()
    lost = storm.answered.keys() - ended
    twice = [name for name, count in site.starts().items() if count > 1]
    print(
        f"\n{what}: {len(storm.answered)} answered, {storm.broken} not; "
        f"{len(ended)} tasks ran, {len(twice)} of them more than once; {len(lost)} lost"
    )
    return set(lost)


@pytest.mark.parametrize("how", ["after", "before", "durable"])
def test_a_server_that_is_killed(site: Site, how: str) -> None:
    """With the default, what was answered and not yet sent is lost; with the others nothing is."""
    choice = random.Random(how)
    site.proxy.delay = 0.02  # a broker in another place, so that what is not sent yet shows
    with ExitStack() as stack:
        stack.enter_context(site.worker())
        with site.server() as server:
            ask(server, *(f"name=before{number}&how={how}" for number in range(100)))
            site.wait_until_all_ran()  # and the connections to the broker are there
            with Storm(server.port, 3000, f"&how={how}") as storm:
                storm.wait_for(choice.randrange(600, 1200))
                time.sleep(choice.uniform(0, 0.02))
                kill_all(server)
                storm.stop()
        if how == "durable":
            stack.enter_context(site.server())
        site.wait_until_all_ran()
    lost = report(f"a server killed, {how}", storm, site)
    if how != "after":
        assert not lost


def test_workers_that_are_killed_in_the_middle_of_tasks(site: Site) -> None:
    choice = random.Random(7)
    with site.server() as server:
        with Storm(server.port, 400, "&how=before&seconds=0.05") as storm:
            for _ in range(3):
                with site.worker() as group:
                    before = len(site.place.lines())
                    until(lambda before=before: len(site.place.lines()) > before + 40)  # type: ignore[misc]
                    time.sleep(choice.uniform(0, 0.1))
                    os.killpg(group, signal.SIGKILL)
        with site.worker():
            site.wait_until_all_ran()
    assert not report("workers killed three times", storm, site)
    assert sum(count > 1 for count in site.starts().values()) <= 3 * 4


@pytest.mark.parametrize("how", ["after", "before", "durable"])
def test_a_broker_that_is_cut_off_for_a_while(site: Site, how: str) -> None:
    with site.worker(), site.server() as server:
        with Storm(server.port, 100_000, f"&how={how}") as storm:
            for number in range(4):
                storm.wait_for(150 * (number + 1))
                if number < 3:
                    site.proxy.cut()
                    time.sleep(1.0)
                    site.proxy.restore()
            storm.stop()
        site.wait_until_all_ran()
    assert not report(f"a broker cut off three times for a second, {how}", storm, site)
    if how != "before":
        assert storm.broken == 0, "a response waits for no broker"


def test_a_broker_that_is_slow_is_in_nobody_s_way(site: Site) -> None:
    """Unless a response is to say that the broker has the task."""

    def seconds(how: str, count: int) -> list[float]:
        found = []
        with Client(server.port) as client:
            for number in range(count):
                began = time.monotonic()
                response = client.request("GET", f"/task?name={how}{number}&how={how}")
                assert response.status == 200
                found.append(time.monotonic() - began)
        return found

    with site.worker(), site.server() as server:
        seconds("after", 5)
        usual = statistics.median(seconds("after", 30))
        site.proxy.delay = 0.25
        after, before = seconds("after", 30), seconds("before", 5)
        site.wait_until_all_ran()
    median, least = statistics.median(after), min(before)
    print(
        f"\na broker that takes 0.5 s: a view takes {median * 1000:.1f} ms, {usual * 1000:.1f} ms "
        f"with a fast one; with send='before_response' {least * 1000:.0f} ms"
    )
    assert median < 0.25
    assert least >= 0.5
