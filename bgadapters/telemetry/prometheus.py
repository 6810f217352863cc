"""Prometheus: how many tasks there are, how they end, how long they wait and take.

One line where the application is set up::

    bgadapters.telemetry.prometheus.instrument()

In the client's multiprocess mode (``PROMETHEUS_MULTIPROC_DIR``) the numbers are those of all
processes together.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence
from threading import Lock
from typing import Any, Literal

from bgadapters.adapters import (
    TaskEvent,
    explain_missing,
    log,
    reset_in_child,
    subscribe,
    unsubscribe,
)

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
except ModuleNotFoundError as missing:
    explain_missing(
        missing,
        "prometheus_client",
        "bgadapters.telemetry.prometheus needs it: pip install 'bgadapters[prometheus]'.",
    )
    raise

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""The upper bounds of the histograms' buckets, in seconds."""
OTHER = "other"
"""The label of tasks whose names are too many."""


_Place = Literal["pending", "running"]


class TaskMetrics:
    """The metrics of the tasks of every application of this process, in one registry.

    See `instrument`, which makes one.
    """

    def __init__(
        self, registry: CollectorRegistry, by_task: bool, most_names: int, buckets: Sequence[float]
    ) -> None:
        self.registry = registry
        self.choices = by_task, most_names, tuple(buckets)
        self._by_task = by_task
        self._most_names = most_names
        self._names: set[str] = set()
        self._places: dict[str, tuple[_Place, tuple[str, ...]]] = {}  # by the task's id
        self._was_forked = False
        self._told: deque[TaskEvent] = deque()
        self._turn = Lock()  # whose holder counts what was told
        labels = ("task",) if by_task else ()
        self._ended = Counter(
            "bgadapters_tasks",
            "Background tasks that have ended, by outcome.",
            (*labels, "outcome"),
            registry=registry,
        )
        self._retries = Counter(
            "bgadapters_task_retries",
            "Failed attempts to run a background task that were followed by another.",
            labels,
            registry=registry,
        )
        self._duration = Histogram(
            "bgadapters_task_duration_seconds",
            "How long background tasks took that have succeeded or failed; the last attempt.",
            labels,
            registry=registry,
            buckets=buckets,
        )
        self._wait = Histogram(
            "bgadapters_task_wait_seconds",
            "How long background tasks waited from add_task to their first attempt.",
            labels,
            registry=registry,
            buckets=buckets,
        )
        self._gauges: dict[_Place, Gauge] = {
            "pending": Gauge(
                "bgadapters_tasks_pending",
                "Background tasks that were added and have not begun.",
                labels,
                registry=registry,
                multiprocess_mode="livesum",
            ),
            "running": Gauge(
                "bgadapters_tasks_running",
                "Background tasks that run.",
                labels,
                registry=registry,
                multiprocess_mode="livesum",
            ),
        }

    def unregister(self) -> None:
        """Take the metrics out of their registry."""
        for metric in (self._ended, self._retries, self._duration, self._wait):
            self.registry.unregister(metric)
        for gauge in self._gauges.values():
            self.registry.unregister(gauge)

    def on_event(self, event: TaskEvent) -> None:
        """Count what has happened to a task, here or in a thread that is about it.

        The client's locks are not re-entrant. A signal handler that adds a task, or the garbage
        collector, which discards them, may come while this thread counts: it goes on with theirs.
        """
        self._told.append(event)
        while self._told and self._turn.acquire(blocking=False):
            try:
                while self._told:
                    self._count(self._told.popleft())
            finally:
                self._turn.release()

    def _count(self, event: TaskEvent) -> None:
        if self._was_forked:
            self._forget_tasks_of_the_parent()
        labels = (self._label(event.name),) if self._by_task else ()
        if event.outcome is not None:
            self._move(event.task_id, None, labels)
            _of(self._ended, (*labels, event.outcome)).inc()
            has_run = event.outcome in {"succeeded", "failed"} and not event.task.is_sent
            if has_run and event.duration is not None:
                _of(self._duration, labels).observe(event.duration)
        elif event.kind == "added":
            self._move(event.task_id, "pending", labels)
        elif event.kind == "started":
            self._move(event.task_id, "running", labels)
            if event.attempt == 1 and event.wait is not None:
                _of(self._wait, labels).observe(event.wait)
        elif event.kind == "retrying":
            self._move(event.task_id, "pending", labels)
            _of(self._retries, labels).inc()

    def _move(self, task_id: str, to: _Place | None, labels: tuple[str, ...]) -> None:
        """Note where a task is now; None where it has ended.

        What is taken out of a gauge is what was put in, also of tasks that were there before.
        """
        before = self._places.pop(task_id, None)
        if before is not None:
            place, its_labels = before
            _of(self._gauges[place], its_labels).dec()
        if to is not None:
            self._places[task_id] = to, labels
            _of(self._gauges[to], labels).inc()

    def _label(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) < self._most_names:
            self._names.add(name)
            return name
        if len(self._names) == self._most_names:
            self._names.add(OTHER)
            log(
                logging.WARNING,
                "Background tasks have more than %d names, and Prometheus keeps a time series for "
                "each: from now on new ones, such as %s, are counted as %r. Leave what changes "
                "out of options(name=...), or use instrument(by_task=False)",
                self._most_names,
                name,
                OTHER,
            )
        return OTHER

    def reset_after_fork(self) -> None:
        """In a forked child: the client's locks wait for the first event."""
        self._was_forked = True
        self._told = deque()
        self._turn = Lock()

    def _forget_tasks_of_the_parent(self) -> None:
        self._was_forked = False
        places, self._places = self._places, {}
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:  # there each process begins at zero
            return
        for place, labels in places.values():
            _of(self._gauges[place], labels).dec()


def _of(metric: Any, labels: tuple[str, ...]) -> Any:
    return metric.labels(*labels) if labels else metric


_installed: list[TaskMetrics] = []


def _reset_after_fork() -> None:
    for metrics in _installed:
        metrics.reset_after_fork()


def instrument(
    registry: CollectorRegistry | None = None,
    *,
    by_task: bool = True,
    most_names: int = 500,
    buckets: Sequence[float] = BUCKETS,
) -> TaskMetrics:
    """Count the tasks of every application of this process, those that are set up later too.

    Args:
        registry: where the metrics are registered. Default: the client's own, ``REGISTRY``.
        by_task: whether metrics have the label ``task``, the name of the task. Each name is a time
            series of its own. Names are those of functions, unless ``options(name=...)`` says
            otherwise. Default: True.
        most_names: how many names there may be; further ones are counted as ``other``, and a
            warning says so. Default: 500.
        buckets: the upper bounds of the histograms' buckets, in seconds. Default: `BUCKETS`.

    Returns:
        What counts. A second call for a registry returns that of the first one.

    Raises:
        ValueError: an earlier call for this registry has chosen otherwise.
    """
    registry = registry or REGISTRY
    choices = by_task, most_names, tuple(buckets)
    for metrics in _installed:
        if metrics.registry is registry:
            if metrics.choices != choices:
                raise ValueError(
                    "bgadapters.telemetry.prometheus.instrument() was called for this registry "
                    f"with other choices before: by_task, most_names and buckets were "
                    f"{metrics.choices}, and are {choices}. Call it once, or with the same ones."
                )
            return metrics
    metrics = TaskMetrics(registry, by_task, most_names, buckets)
    _installed.append(metrics)
    subscribe(metrics.on_event)
    reset_in_child("prometheus", _reset_after_fork)
    return metrics


def uninstrument(registry: CollectorRegistry | None = None) -> None:
    """Undo `instrument`. Nothing happens if it was not called for this registry."""
    registry = registry or REGISTRY
    for metrics in [each for each in _installed if each.registry is registry]:
        _installed.remove(metrics)
        unsubscribe(metrics.on_event)
        metrics.unregister()
