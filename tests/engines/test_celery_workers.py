"""Celery's own workers, of every kind, with RabbitMQ; and projects as their authors set them up."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.engines import work
from tests.engines.bench import until
from tests.engines.celery_benches import RabbitMQBench, is_there
from tests.engines.celery_worker import BROKER, QUEUE, add_more
from tests.engines.web import Web
from tests.hosts.client import Client
from tests.running import running
from tests.stores.process import in_child

pytestmark = pytest.mark.skipif(
    not is_there(RabbitMQBench.its_port), reason="no RabbitMQ at port 5672"
)

_PATIENCE_OF_BILLIARD = 60
"""A process of a worker that ends waits half a minute if what it has said was not read yet."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[RabbitMQBench]:
    bench = RabbitMQBench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def web(bench: RabbitMQBench) -> Iterator[Web]:
    web = Web(bench.engine())
    yield web
    web.close()


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent", "solo"])
def test_every_pool_runs_plain_and_async_functions(
    bench: RabbitMQBench, web: Web, pool: str
) -> None:
    if pool == "gevent":
        pytest.importorskip("gevent")
    bench.pool = ("--pool", pool, "--concurrency", "2")  # type: ignore[misc]  # of this one
    with bench.worker() as process:
        plain, of_a_loop = web.send(work.note), web.send(work.anote)
        again = web.send(work.fail, 1, retries=1, backoff=0.0)
        for task_id in (plain, of_a_loop, again):
            bench.wait_for(task_id, "succeeded")
        process.send_signal(signal.SIGTERM)
        assert process.wait(_PATIENCE_OF_BILLIARD) == 0, bench.said()
    assert [line.attempt for line in bench.lines(again, "ran")] == [1, 2]


def test_a_plain_function_that_takes_too_long_is_interrupted(
    bench: RabbitMQBench, web: Web
) -> None:
    """By the soft time limit of Celery, in a worker of processes."""
    with bench.worker():
        task_id = web.send(work.wait, "/no/such/gate", timeout=0.5)
        (failed,) = bench.wait_for(task_id, "failed")
        assert failed.what == "SoftTimeLimitExceeded"
        until(lambda: bench.has_failed(task_id), bench.said)
        bench.wait_for(web.send(work.note), "succeeded")


def test_a_task_whose_process_is_killed_runs_again(bench: RabbitMQBench, web: Web) -> None:
    gate = bench.directory / "gate"
    with bench.worker():
        task_id = web.send(work.wait, str(gate))
        (first,) = bench.wait_for(task_id, "ran")
        os.kill(first.pid, signal.SIGKILL)
        bench.wait_for(task_id, "ran", 2)
        gate.touch()
        bench.wait_for(task_id, "succeeded")
    assert not bench.has_failed(task_id)


def test_a_task_whose_worker_is_killed_runs_in_the_next_one(bench: RabbitMQBench, web: Web) -> None:
    gate = bench.directory / "gate"
    with bench.worker() as process:
        task_id, waiting = web.send(work.wait, str(gate)), web.send(work.note)
        bench.wait_for(task_id, "ran")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    gate.touch()
    with bench.worker():
        bench.wait_for(task_id, "succeeded")
        bench.wait_for(waiting, "succeeded")
    assert len(bench.lines(task_id, "ran")) == 2
    assert len(bench.lines(waiting, "ran")) == 1


def test_what_a_task_adds_in_a_worker_runs_there(bench: RabbitMQBench, web: Web) -> None:
    """In its process, and before that has ended."""
    with bench.worker() as process:
        bench.wait_for(web.send(add_more), "succeeded")
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE_OF_BILLIARD)
        assert [line.what for line in bench.lines(kind="ran")] == ["more"]


def test_a_child_leaves_its_parent_s_connection_alone(bench: RabbitMQBench, web: Web) -> None:
    web.send(work.note)
    engine: Any = web.runtime.settings.engines["it"]
    (producer,) = engine._broker._idle
    in_child(lambda: web.send(work.note))
    web.send(work.note)
    assert list(engine._broker._idle) == [producer], "it was not used again"
    assert bench.waiting() == 3


class TestProjects:
    """The applications of frameworks, with a worker that is started as their authors do it."""

    SERVERS: ClassVar[dict[str, tuple[str, ...]]] = {
        "django": (
            *("{bin}/gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread"),
            "django.core.wsgi:get_wsgi_application()",
        ),
        "fastapi": ("{bin}/uvicorn", "--port", "{port}", "tests.engines.celery_fastapi:app"),
        "flask": (
            *("{bin}/gunicorn", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread"),
            "tests.engines.celery_flask:app",
        ),
    }
    WORKERS: ClassVar[dict[str, str]] = {
        "django": "tests.engines.celery_site.celery_app",
        "fastapi": "tests.engines.celery_fastapi:celery_app",
        "flask": "tests.engines.celery_flask:celery_app",
    }

    @contextmanager
    def worker(self, bench: RabbitMQBench, project: str, **environ: str) -> Iterator[None]:
        name = f"{bench.queue}@%h"
        command = ("-m", "celery", "-A", self.WORKERS[project], "worker", "-c", "1", "-n", name)
        with bench.process(*command, "--without-mingle", **environ):
            yield

    @pytest.mark.parametrize("project", SERVERS)
    def test_a_view_s_task_runs_in_the_worker(
        self, bench: RabbitMQBench, tmp_path: Path, project: str
    ) -> None:
        environ = {
            BROKER: bench.url.format(bench.port),
            QUEUE: bench.queue,
            work.LOG: str(bench.file),
            "DJANGO_SETTINGS_MODULE": "tests.engines.celery_site.settings",
            "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        }
        if project != "django":
            del environ["DJANGO_SETTINGS_MODULE"]
        with (
            running(tmp_path, *self.SERVERS[project], **environ) as server,
            self.worker(bench, project, **environ),
            Client(server.port) as client,
        ):
            assert client.request("GET", "/add?name=Zoe").body == b"added"
            until(lambda: bench.lines(kind="ran"), bench.said)
        (ran,) = bench.lines(kind="ran")
        assert ran.what == {"django": "Zoe de"}.get(project, f"Zoe in {project}")
        assert ran.pid != server.process.pid
