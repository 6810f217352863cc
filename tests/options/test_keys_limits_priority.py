"""``key``, ``concurrency`` and ``priority`` on every framework, for both kinds of tasks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tests.django  # noqa: F401  # pyright: ignore[reportUnusedImport]  its settings
from bgadapters import TaskEvent
from tests.core.test_limits import Gauge, Held, wait_until_parked
from tests.options.places import PATIENCE, PLACES, Adder, Make, Place

Log = list[Any]
Kind = Callable[[Callable[..., Any]], Callable[..., Any]]
LATER = 1000.0


@pytest.fixture
def events() -> list[TaskEvent]:
    return []


@pytest.fixture(params=PLACES, ids=lambda make: make.__name__)
def place(request: pytest.FixtureRequest, events: list[TaskEvent]) -> Iterator[Place]:
    """With one worker, so that what is released while that is busy waits."""
    make: Make = request.param
    with make(max_workers=1, concurrency={"slow": 2}, on_event=events.append) as place:
        yield place
        assert place.runtime.drain(PATIENCE) == []
        assert (place.runtime.in_flight.live(), place.runtime.in_flight.in_use) == ([], 0)
        place.runtime.scheduler.background.stop()


def as_sync(func: Callable[..., Any]) -> Callable[..., Any]:
    return func


def as_async(func: Callable[..., Any]) -> Callable[..., Any]:
    async def task(*args: Any) -> None:
        await asyncio.sleep(0)
        func(*args)

    return task


@pytest.fixture(params=[as_sync, as_async], ids=["sync", "async"])
def kind(request: pytest.FixtureRequest) -> Kind:
    kind: Kind = request.param
    return kind


def ends(events: list[TaskEvent]) -> dict[str, list[str]]:
    """How each task has ended, by its name."""
    found: dict[str, list[str]] = {}
    for event in list(events):
        if event.outcome is not None:
            found.setdefault(event.name, []).append(event.kind)
    return found


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_debounce(place: Place, kind: Kind, events: list[TaskEvent]) -> None:
    log: Log = []

    def ask(name: str, delay: float) -> None:
        def view(adder: Adder) -> None:
            adder.options(key="reindex", delay=delay, name=name).add_task(kind(log.append), name)

        place.request(view)

    ask("first", LATER)
    wait_for(lambda: len(place.runtime.in_flight.live()) == 1)
    ask("second", LATER)
    wait_for(lambda: ends(events) == {"first": ["replaced"]})
    ask("third", 0.02)
    wait_for(lambda: "third" in ends(events))
    assert log == ["third"]
    assert ends(events) == {"first": ["replaced"], "second": ["replaced"], "third": ["succeeded"]}


def test_the_one_that_waits_is_kept_and_forgotten(
    place: Place, kind: Kind, events: list[TaskEvent]
) -> None:
    told: list[bool] = []

    def view(adder: Adder) -> None:
        keep = adder.options(key="reindex", delay=LATER, on_duplicate="keep")
        keep.options(name="first").add_task(kind(int))
        keep.options(name="second").add_task(kind(int))

    place.request(view)
    wait_for(lambda: ends(events) == {"second": ["replaced"]})
    place.request(lambda adder: told.extend(adder.forget("reindex") for _ in range(2)))
    assert told == [True, False]
    wait_for(lambda: ends(events) == {"second": ["replaced"], "first": ["discarded"]})
    assert {e.reason for e in events if e.kind == "discarded"} == {"forget('reindex') was called"}


def test_a_response_that_fails_replaces_nothing(place: Place, events: list[TaskEvent]) -> None:
    def waits(adder: Adder) -> None:
        adder.options(key="k", delay=LATER, name="waits").add_task(int)

    def fails(adder: Adder) -> None:
        adder.options(key="k", name="of the failed response").add_task(int)
        raise KeyError

    place.request(waits)
    wait_for(lambda: len(place.runtime.in_flight.live()) == 1)
    with pytest.raises(KeyError):
        place.request(fails)
    wait_for(lambda: ends(events) == {"of the failed response": ["discarded"]})
    place.request(lambda adder: adder.forget("k"))
    wait_for(lambda: ends(events).get("waits") == ["discarded"])


def test_a_limit(place: Place, kind: Kind, events: list[TaskEvent]) -> None:
    gauge, held = Gauge(), [Held() for _ in range(6)]

    def work(one: Held) -> None:
        with gauge.running():
            one.task()

    async def awork(one: Held) -> None:
        with gauge.running():
            await one.atask()

    func: Callable[..., Any] = work if kind is as_sync else awork

    def view(adder: Adder) -> None:
        for one in held[:3]:
            adder.options(concurrency="slow").add_task(func, one)
        adder.options(name="last").add_task(int)

    place.runtime.scheduler.pool._max_workers = 8
    place.request(view)
    for one in held[3:]:
        place.request(lambda adder, one=one: adder.options(concurrency="slow").add_task(func, one))  # type: ignore[misc]
    wait_until_parked(place.runtime, 2)
    wait_for(lambda: gauge.now == 2)
    for one in held:
        one.go_on.set()
    wait_for(lambda: sum(map(len, ends(events).values())) == 7)
    assert gauge.peak == 2
    assert {kind for kinds in ends(events).values() for kind in kinds} == {"succeeded"}


def test_an_unknown_limit_is_refused_in_the_view(place: Place) -> None:
    with pytest.raises(TypeError, match="the setting 'concurrency' names 'slow'"):
        place.request(lambda adder: adder.options(concurrency="fast").add_task(int))


def test_a_priority(place: Place) -> None:
    log: Log = []
    started, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        started.set()
        assert go_on.wait(PATIENCE)

    def view(adder: Adder) -> None:
        for priority in (-5, 0, 5, 50):
            adder.options(priority=priority).add_task(log.append, priority)

    place.request(lambda adder: adder.add_task(hold))
    assert started.wait(PATIENCE)
    jobs = place.runtime.scheduler.pool._jobs
    place.request(lambda adder: adder.add_task(log.append, "earlier"))
    wait_for(lambda: jobs.qsize() == 1)  # a response may come before its tasks are released
    place.request(view)
    wait_for(lambda: jobs.qsize() == 5)
    go_on.set()
    assert place.runtime.drain(PATIENCE) == []
    assert log == [50, 5, "earlier", 0, -5]
