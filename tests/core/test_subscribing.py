"""Listeners of the whole process: in which order they are told, and how often."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import Runtime, subscribe, unsubscribe
from tests.core.ways import Log

Listener = Callable[[TaskEvent], None]


@pytest.fixture
def listener(log: Log) -> Iterator[Callable[[str], Listener]]:
    made: list[Listener] = []

    def make(name: str) -> Listener:
        def listen(event: TaskEvent) -> None:
            if event.kind == "added":
                log.append(name)

        made.append(listen)
        return listen

    yield make
    for each in made:
        unsubscribe(each)


def test_they_are_told_in_their_order_and_one_may_be_first(
    runtime: Runtime, listener: Callable[[str], Listener], log: Log
) -> None:
    subscribe(listener("a"))
    subscribe(listener("b"))
    subscribe(listener("c"), first=True)
    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(lambda: None)
    assert log == ["c", "a", "b"]


def test_the_same_one_twice_is_one_and_keeps_its_place(
    runtime: Runtime, listener: Callable[[str], Listener], log: Log
) -> None:
    once = listener("once")
    subscribe(listener("a"))
    subscribe(once)
    subscribe(once, first=True)
    with BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(lambda: None)
    assert log == ["a", "once"]
