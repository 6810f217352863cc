"""Listeners of the whole process that close what hooks are to find open."""

from __future__ import annotations

import pytest

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import Runtime, Settings, subscribe, unsubscribe


def boom() -> None:
    raise ValueError


def fine() -> None: ...


@pytest.mark.parametrize(("task", "end"), [(fine, "succeeded"), (boom, "failed")])
def test_they_are_told_after_the_hooks(task: object, end: str) -> None:
    told: list[str] = []

    def first(event: TaskEvent) -> None:
        told.append(f"first {event.kind}")

    def last(event: TaskEvent) -> None:
        told.append(f"last {event.kind}")

    runtime = Runtime(
        Settings(
            on_event=lambda event: told.append(f"on_event {event.kind}"),
            on_error=lambda event: told.append(f"on_error {event.kind}"),
        )
    )
    subscribe(last, after_hooks=True)
    subscribe(last, after_hooks=True)
    subscribe(first)
    try:
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(task)  # type: ignore[arg-type]
        runtime.drain()
    finally:
        unsubscribe(first)
        unsubscribe(last)
    errors = [f"on_error {end}"] if end == "failed" else []
    assert told == [
        *("first added", "on_event added", "last added"),
        *("first started", "on_event started", "last started"),
        *(f"first {end}", f"on_event {end}", *errors, f"last {end}"),
    ]


def test_one_alone_makes_events_and_none_makes_none() -> None:
    told: list[str] = []

    def last(event: TaskEvent) -> None:
        told.append(event.kind)

    runtime = Runtime()
    plainly = [runtime.adds_plainly]
    subscribe(last, after_hooks=True)
    try:
        plainly.append(runtime.adds_plainly)
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(fine)
        runtime.drain()
        assert told == ["added", "started", "succeeded"]
    finally:
        unsubscribe(last)
    assert [*plainly, runtime.adds_plainly] == [True, False, True]
