"""Prometheus: numbers of one process, and of several workers together."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("prometheus_client")

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import bgadapters
from bgadapters.adapters import Runtime, Settings, TaskEvent, parse_settings
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import Task
from bgadapters.telemetry.prometheus import TaskMetrics, instrument, uninstrument
from tests.core.memory_engine import MemoryEngine
from tests.running import Running, running
from tests.telemetry.lines import Lines

NAME = __name__


@pytest.fixture
def registry() -> Iterator[CollectorRegistry]:
    registry = CollectorRegistry()
    yield registry
    uninstrument(registry)


def value(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(f"bgadapters_{name}", labels)


def fine() -> None: ...


async def afine() -> None:
    await asyncio.sleep(0)


def boom() -> None:
    raise ValueError


@pytest.mark.parametrize(
    ("task", "outcome"), [(fine, "succeeded"), (afine, "succeeded"), (boom, "failed")]
)
def test_tasks_are_counted_and_timed(registry: CollectorRegistry, task: Any, outcome: str) -> None:
    instrument(registry)
    with bgadapters.BackgroundTasks() as tasks:
        tasks.add_task(task)
        tasks.add_task(task)
        name = f"{NAME}.{task.__name__}"
        assert value(registry, "tasks_pending", task=name) == 2
    bgadapters.drain()
    assert value(registry, "tasks_total", task=name, outcome=outcome) == 2
    assert value(registry, "task_duration_seconds_count", task=name) == 2
    assert value(registry, "task_wait_seconds_count", task=name) == 2
    assert 0 < (value(registry, "task_duration_seconds_sum", task=name) or 0) < 10
    assert value(registry, "tasks_pending", task=name) == 0
    assert value(registry, "tasks_running", task=name) == 0


def test_a_task_that_could_not_be_sent_has_taken_no_time(registry: CollectorRegistry) -> None:
    instrument(registry)
    engine = MemoryEngine(patience=0)
    engine.is_down = True
    runtime = Runtime(parse_settings({"engines": {"it": engine}, "task_modules": [__name__]}))
    with bgadapters.BackgroundTasks(runtime=runtime) as queue:
        queue.options(engine="it").add_task(fine)
    assert runtime.drain(20) == []
    name = f"{__name__}.fine"
    assert value(registry, "tasks_total", task=name, outcome="failed") == 1
    assert value(registry, "task_duration_seconds_count", task=name) is None
    runtime.close()


def test_gauges_tell_what_waits_and_runs(registry: CollectorRegistry) -> None:
    instrument(registry, by_task=False)
    runtime = Runtime(Settings(max_workers=1))
    began, may_end = threading.Event(), threading.Event()

    def hangs() -> None:
        began.set()
        may_end.wait(20)

    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        for task in (hangs, fine, fine):
            tasks.add_task(task)
    assert began.wait(20)
    try:
        assert value(registry, "tasks_running") == 1
        assert value(registry, "tasks_pending") == 2
        assert len(runtime.drain(0.01)) == 3
        assert value(registry, "tasks_running") == value(registry, "tasks_pending") == 0
        assert value(registry, "tasks_total", outcome="abandoned") == 3
        assert value(registry, "task_duration_seconds_count") == 0
    finally:
        may_end.set()


def test_discarded_tasks_wait_no_more(registry: CollectorRegistry) -> None:
    instrument(registry, by_task=False)
    with pytest.raises(KeyError), bgadapters.BackgroundTasks() as tasks:
        tasks.add_task(fine)
        raise KeyError
    assert value(registry, "tasks_pending") == 0
    assert value(registry, "tasks_total", outcome="discarded") == 1


def test_a_task_from_before_makes_no_gauge_wrong(registry: CollectorRegistry) -> None:
    with bgadapters.BackgroundTasks() as tasks:
        tasks.add_task(fine)
        instrument(registry, by_task=False)
    bgadapters.drain()
    assert value(registry, "tasks_pending") == 0
    assert value(registry, "tasks_running") == 0
    assert value(registry, "tasks_total", outcome="succeeded") == 1


class Origin:
    id = "queue"
    method = path = outcome = None


def events_of_a_retried_task() -> Iterator[TaskEvent]:
    from contextvars import Context

    task = Task(fine, (), Context())
    record = Record(Origin(), 1.0)
    yield TaskEvent("added", task, None, record)
    record.started = 2.0
    yield TaskEvent("started", task, None, record)
    yield TaskEvent("retrying", task, ValueError(), record)
    record.attempt, record.started = 2, 4.0
    yield TaskEvent("started", task, None, record)
    record.ended, record.outcome = 5.0, "succeeded"
    yield TaskEvent("succeeded", task, None, record)


def test_a_task_that_is_tried_again_waits_again(registry: CollectorRegistry) -> None:
    metrics = instrument(registry, by_task=False)
    seen = []
    for event in events_of_a_retried_task():
        metrics.on_event(event)
        seen.append((value(registry, "tasks_pending"), value(registry, "tasks_running")))
    assert seen == [(1, 0), (0, 1), (1, 0), (0, 1), (0, 0)]
    assert value(registry, "task_retries_total") == 1
    assert value(registry, "tasks_total", outcome="succeeded") == 1
    assert value(registry, "task_wait_seconds_sum") == 1
    assert value(registry, "task_duration_seconds_sum") == 1
    assert value(registry, "task_duration_seconds_count") == 1


def test_too_many_names_are_one(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    instrument(registry, most_names=2)
    with caplog.at_level(logging.WARNING, "bgadapters"):
        with bgadapters.BackgroundTasks() as tasks:
            for number in range(4):
                tasks.options(name=f"mail {number}").add_task(fine)
        bgadapters.drain()
    assert value(registry, "tasks_total", task="mail 1", outcome="succeeded") == 1
    assert value(registry, "tasks_total", task="other", outcome="succeeded") == 2
    (warning,) = caplog.messages
    assert "more than 2 names" in warning
    assert "mail 2" in warning


def test_a_second_call_is_none(registry: CollectorRegistry) -> None:
    """An application may be made twice in a process."""
    assert instrument(registry) is instrument(registry)
    with pytest.raises(ValueError, match="with other choices before"):
        instrument(registry, by_task=False)
    uninstrument(registry)
    assert isinstance(instrument(registry, by_task=False), TaskMetrics)


def test_what_comes_while_it_counts_is_counted_after(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As from a signal handler or the garbage collector: the client's locks are not re-entrant."""
    metrics = instrument(registry, by_task=False)
    first, second = (next(events_of_a_retried_task()) for _ in range(2))
    gauge: Any = metrics._gauges["pending"]
    lock, come = gauge._value._lock, [second]

    class Interrupted:
        def __enter__(self) -> None:
            lock.acquire()
            if come:
                metrics.on_event(come.pop())

        def __exit__(self, *_: object) -> None:
            lock.release()

    monkeypatch.setattr(gauge._value, "_lock", Interrupted())
    metrics.on_event(first)
    assert not come
    assert value(registry, "tasks_pending") == 2


def test_the_default_is_the_registry_of_the_client() -> None:
    from prometheus_client import REGISTRY

    try:
        assert instrument().registry is REGISTRY
    finally:
        uninstrument()
    assert REGISTRY.get_sample_value("bgadapters_tasks_running") is None


@pytest.mark.parametrize("is_multiprocess", [False, True])
def test_a_forked_child_has_no_tasks_of_its_parent(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, is_multiprocess: bool
) -> None:
    """In multiprocess mode the client itself begins at zero, which this one does not."""
    metrics = instrument(registry, by_task=False)
    if is_multiprocess:
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere")
    events = list(events_of_a_retried_task())
    metrics.on_event(events[0])
    child = os.fork()
    if child == 0:
        metrics.on_event(next(events_of_a_retried_task()))
        left = value(registry, "tasks_pending")
        os._exit(0 if left == (2 if is_multiprocess else 1) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert value(registry, "tasks_pending") == 1
    metrics.on_event(events[1])
    assert value(registry, "tasks_pending") == 0


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as response:
        return str(response.read().decode())


def scraped(server: Running) -> dict[tuple[str, str], float]:
    """The samples of all workers together, by name and outcome, of any task."""
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(get(f"{server.url}/metrics")):
        for sample in family.samples:
            key = sample.name.removeprefix("bgadapters_"), sample.labels.get("outcome", "")
            found[key] = found.get(key, 0) + sample.value
    return found


@pytest.mark.host
def test_workers_of_gunicorn_are_counted_together(tmp_path: Path) -> None:
    """Two workers: the sums are of both, whichever answers; one that was killed runs no tasks."""
    lines = Lines(tmp_path)
    (tmp_path / "metrics").mkdir()
    may_end = tmp_path / "may-end"
    with running(
        tmp_path,
        *("{bin}/python", "-m", "gunicorn", "tests.telemetry.prometheus_app:app"),
        *("--config", "docs/snippets/gunicorn_prometheus.py", "--log-level", "warning"),
        *("--bind", "127.0.0.1:{port}", "--workers", "2", "--threads", "4"),
        PROMETHEUS_MULTIPROC_DIR=str(tmp_path / "metrics"),
        MAY_END=str(may_end),
        **lines.environ,
    ) as server:
        workers: set[int] = set()
        requests = 0
        while len(workers) < 2 or requests < 6:  # the kernel chooses who gets a connection
            assert requests < 500, "one of the workers has answered all requests"
            workers.add(int(get(f"{server.url}/hang")))
            requests += 1
        began = lines.wait_for("began", requests)
        now = scraped(server)
        assert now["tasks_running", ""] == requests
        assert now["tasks_pending", ""] == 0
        victim = began[0]["pid"]
        os.kill(victim, 9)
        left = sum(line["pid"] != victim for line in began)
        lines.wait_until(lambda: [{}] if scraped(server)["tasks_running", ""] == left else [])
        may_end.touch()
        lines.wait_for("ended", left)
        lines.wait_until(lambda: [{}] if scraped(server)["tasks_running", ""] == 0 else [])
        now = scraped(server)
        assert now["tasks_total", "succeeded"] == left
        assert now["task_duration_seconds_count", ""] == left
        assert now["task_wait_seconds_count", ""] == requests
