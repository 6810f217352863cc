"""Hooks and receivers can use the ORM, whatever happens where they are told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import HttpResponse

import bgadapters
from bgadapters import TaskEvent
from bgadapters.core.drivers import pool
from bgadapters.django import BackgroundTasks, background_tasks, signals
from bgadapters.django.runtime import get_runtime
from tests.django import databases
from tests.django.databases import ALIASES
from tests.django.serving import Log, Site
from tests.our_log import OurLog

NUMBERS = {"added": 0, "started": 1, "succeeded": 2, "failed": 3, "discarded": 4}


def good() -> None: ...


def bad() -> None:
    raise ValueError("no")


async def abad() -> None:
    raise ValueError("no")


async def agood() -> None: ...


@pytest.fixture(params=ALIASES)
def alias(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def table(alias: str) -> Iterator[str]:
    with databases.table(alias) as name:
        yield name


@contextmanager
def received(signal: Any, receiver: Callable[..., Any]) -> Iterator[None]:
    signal.connect(receiver)
    try:
        yield
    finally:
        signal.disconnect(receiver)


@pytest.mark.parametrize("task", [bad, abad])
def test_a_row_for_a_task_that_failed(handler: Site, alias: str, table: str, task: Any) -> None:
    """By the setting and by a signal."""

    def write(event: TaskEvent) -> None:
        databases.insert(alias, table, NUMBERS[event.kind])

    def receive(event: TaskEvent, **_: Any) -> None:
        with transaction.atomic(using=alias):
            databases.insert(alias, table, 10 + NUMBERS[event.kind])

    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(task)
        return HttpResponse()

    handler.set(BACKGROUND_TASKS={"ON_ERROR": write})
    with received(signals.task_failed, receive):
        handler.serve(view).get()
    assert databases.numbers(alias, table) == [3, 13]


@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_a_row_for_a_task_that_was_discarded(
    handler: Site, alias: str, table: str, view_is: str
) -> None:
    """Though the view's own transaction is open, and is rolled back."""

    def receive(event: TaskEvent, **_: Any) -> None:
        databases.insert(alias, table, NUMBERS[event.kind])

    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(good)
        raise ValueError

    @transaction.atomic(using=alias)
    def in_a_transaction(request: Any) -> Any:
        databases.select_one(alias)
        return view(request)

    @background_tasks
    async def aview(request: Any) -> HttpResponse:
        request.background_tasks.add_task(good)
        raise ValueError

    with received(signals.task_discarded, receive):
        handler.serve(in_a_transaction if view_is == "sync" else aview).get()
    assert databases.numbers(alias, table) == [4]


def test_a_row_for_a_task_whose_transaction_is_rolled_back(alias: str, table: str) -> None:
    """In the middle of the rollback. Whoever raised hears of his own exception alone."""
    threads: list[int] = []

    def receive(event: TaskEvent, **_: Any) -> None:
        threads.append(threading.get_ident())
        databases.insert(alias, table, NUMBERS[event.kind])

    with received(signals.task_discarded, receive):
        with pytest.raises(KeyError), transaction.atomic(using=alias):
            databases.insert(alias, table, 99)
            with BackgroundTasks() as tasks:
                tasks.add_task(good)
            raise KeyError
        assert bgadapters.drain() == []
    assert databases.numbers(alias, table) == [4]
    assert threading.get_ident() not in threads


def test_inside_of_a_task_that_is_in_a_transaction(alias: str, table: str) -> None:
    """It is the task's: what is discarded there is told elsewhere."""

    def receive(event: TaskEvent, **_: Any) -> None:
        databases.insert(alias, table, NUMBERS[event.kind])

    def task() -> None:
        with transaction.atomic(using=alias):
            databases.select_one(alias)
            inner = BackgroundTasks()
            inner.add_task(good)
            inner.close(ValueError())
            transaction.set_rollback(True, using=alias)

    async def atask() -> None:
        await sync_to_async(task)()

    with received(signals.task_discarded, receive):
        with BackgroundTasks() as tasks:
            tasks.add_task(task)
            tasks.add_task(atask)
        bgadapters.drain()
    assert databases.numbers(alias, table) == [4, 4]


def test_they_are_called_in_order_and_in_the_context_of_the_task(site: Site, log: Log) -> None:
    """Whatever kinds of tasks come one after the other."""
    request = ContextVar("request", default="none")

    def hook(event: TaskEvent) -> None:
        log.append((event.kind, event.task.name, request.get()))

    site.set(BACKGROUND_TASKS={"ON_EVENT": hook})
    request.set("mine")
    with BackgroundTasks() as tasks:
        for number, task in enumerate((good, agood, good, abad, bad)):
            tasks.options(name=str(number)).add_task(task)
    request.set("another")
    bgadapters.drain()
    ends = ("succeeded", "succeeded", "succeeded", "failed", "failed")
    assert log[:5] == [("added", str(number), "mine") for number in range(5)]
    assert log[5:] == [
        (kind, str(number), "mine") for number, end in enumerate(ends) for kind in ("started", end)
    ]


@pytest.mark.parametrize("task", [bad, abad])
def test_one_that_fails_is_logged_and_what_it_has_begun_is_ended(
    site: Site, our_log: OurLog, task: Any
) -> None:
    def hook(_: TaskEvent) -> None:
        transaction.atomic().__enter__()
        raise RuntimeError("a broken hook")

    site.set(BACKGROUND_TASKS={"ON_ERROR": hook})
    with BackgroundTasks() as tasks:
        tasks.options(name="task").add_task(task)
    bgadapters.drain()
    assert sorted(our_log.messages) == [
        "A background task has left a transaction open on the database 'default': "
        "it is rolled back",
        "Background task task failed: ValueError: no",
        "The hook for the event 'failed' of task failed",
    ]


def test_where_no_thread_can_be_started(
    site: Site, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are called at once, with connections of their own."""

    def hook(event: TaskEvent) -> None:
        log.append((event.kind, databases.select_one(), connections["default"].in_atomic_block))

    site.set(BACKGROUND_TASKS={"ON_EVENT": hook})
    get_runtime()
    monkeypatch.setattr(pool.Pool, "submit", lambda *_: False)
    mine = connections["default"]
    with transaction.atomic():
        queue = BackgroundTasks()
        queue.options(on_commit=False).add_task(good)
        queue.close(ValueError())
        assert connections["default"] is mine
    assert log == [("added", (1,), True), ("discarded", (1,), False)]


def test_a_drain_names_the_hook_that_does_not_return(site: Site, our_log: OurLog) -> None:
    over, called = threading.Event(), threading.Event()

    def hook(_: TaskEvent) -> None:
        called.set()
        over.wait(10)

    site.set(BACKGROUND_TASKS={"ON_ERROR": hook})
    with BackgroundTasks() as tasks:
        tasks.options(name="task").add_task(abad)
    called.wait(10)
    while len(get_runtime().in_flight.live()) > 1:  # the task itself is on its way out
        time.sleep(0.001)
    (batch,) = get_runtime().in_flight.live()
    assert batch.carrier is not None
    batch.carrier.rescue()  # no loop has it, so there is nothing to do
    assert bgadapters.drain(0.01) == []
    assert our_log.warnings == [
        "A hook was still to be called, or to return, for the event 'failed' of task"
    ]
    over.set()
    assert bgadapters.drain() == []


def test_on_an_event_loop_nobody_waits_for_them(site: Site, log: Log) -> None:
    """A drain does."""

    def hook(event: TaskEvent) -> None:
        log.append((event.kind, threading.current_thread().name, databases.select_one()))

    async def main() -> None:
        async with BackgroundTasks() as tasks:
            tasks.add_task(abad)
        await bgadapters.adrain()
        assert [kind for kind, *_ in log] == ["failed"]

    site.set(BACKGROUND_TASKS={"ON_ERROR": hook})
    asyncio.run(main())
    assert log == [("failed", "bgadapters-hooks-1", (1,))]
