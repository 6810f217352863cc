"""A signal for each thing that happens to a task."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpResponse

from bgadapters import TaskEvent, add_task
from bgadapters.adapters import Kind
from bgadapters.django import background_tasks, signals
from tests.django.serving import Log, Site


def good() -> None: ...


def bad() -> None:
    raise ValueError("no")


@pytest.fixture
def heard() -> Iterator[Log]:
    log: Log = []

    def hear(sender: Any, event: TaskEvent, **_: Any) -> None:
        log.append((event.kind, sender.__name__))

    def broken(**_: Any) -> None:
        raise RuntimeError("a broken receiver")

    for signal in signals.SIGNALS.values():
        signal.connect(broken)
        signal.connect(hear)
    yield log
    for signal in signals.SIGNALS.values():
        signal.disconnect(broken)
        signal.disconnect(hear)


def test_a_signal_for_each_event(site: Site, heard: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        add_task(good)
        add_task(bad)
        return HttpResponse()

    events: Log = []
    site.set(BACKGROUND_TASKS={"ON_EVENT": events.append})
    site.serve(view).get()
    assert heard == [
        ("added", "good"),
        ("added", "bad"),
        ("started", "good"),
        ("succeeded", "good"),
        ("started", "bad"),
        ("failed", "bad"),
    ]
    assert [event.kind for event in events] == [kind for kind, _ in heard]


def test_discarded_tasks_have_one_too(site: Site, heard: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        add_task(good)
        raise ValueError

    site.serve(view).get()
    assert heard == [("added", "good"), ("discarded", "good")]


@pytest.mark.parametrize("kind", signals.SIGNALS)
def test_a_receiver_of_any_signal_is_one(kind: Kind) -> None:
    tells = signals.TaskSignals(lambda *_: None)
    assert not tells.has_receivers()

    def hear(**_: Any) -> None: ...

    signals.SIGNALS[kind].connect(hear)
    try:
        assert tells.has_receivers()
    finally:
        signals.SIGNALS[kind].disconnect(hear)
