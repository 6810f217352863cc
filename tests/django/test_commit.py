"""A task that was added in a transaction runs only if that commits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.http import HttpResponse
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.views import set_rollback

import bgadapters
from bgadapters import BackgroundTasks, add_task
from bgadapters.django import background_tasks, commit
from bgadapters.django.runtime import get_runtime
from tests.django import databases
from tests.django.databases import ALIASES
from tests.django.serving import Log, Site
from tests.our_log import OurLog

ROLLED_BACK = "their transaction was rolled back"


def named(name: str, func: Callable[..., Any], *args: Any) -> None:
    """Add a task with a name, from below a view."""
    from bgadapters.adapters import current_queue

    current_queue().options(name=name).add_task(func, *args)


class Oops(Exception):
    """What a block raises that its view catches."""


def roll_back(*_: Any) -> None:
    raise Oops


def oops_caught() -> suppress:
    return suppress(Oops)


@pytest.mark.parametrize("alias", ALIASES)
def test_a_task_of_a_block_that_commits_runs_and_sees_what_was_written(
    everywhere: Site, log: Log, alias: str
) -> None:
    with databases.table(alias) as table:

        @background_tasks
        def view(request: Any) -> HttpResponse:
            with transaction.atomic(using=alias):
                add_task(lambda: log.append(databases.numbers(alias, table)))
                databases.insert(alias, table, 1)
            return HttpResponse()

        everywhere.serve(view).get()
        assert log == [[1]]


def test_a_look_that_finds_no_connection_does_not_hide_a_later_one(log: Log) -> None:
    """On an event loop Django keeps others than in the thread of that loop."""

    async def add_on_a_loop() -> None:
        tasks.add_task(log.append, "on a loop")

    def add() -> None:
        tasks.add_task(log.append, "nothing is open")
        databases.select_one()
        asyncio.run(add_on_a_loop())
        with oops_caught(), transaction.atomic():
            tasks.add_task(log.append, "in a transaction")
            roll_back()
        connections.close_all()
        tasks.add_task(log.append, "all are closed")
        with oops_caught(), transaction.atomic():
            tasks.add_task(log.append, "in another transaction")
            roll_back()
        connections.close_all()

    tasks = BackgroundTasks(runtime=get_runtime())
    thread = threading.Thread(target=add)
    thread.start()
    thread.join()
    tasks.release()
    assert bgadapters.drain() == []
    assert log == ["nothing is open", "on a loop", "all are closed"]


@pytest.mark.parametrize("alias", ALIASES)
def test_a_task_of_a_block_that_is_rolled_back_is_discarded_and_named(
    everywhere: Site, log: Log, our_log: OurLog, alias: str
) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        named("before", log.append, "before")
        with oops_caught(), transaction.atomic(using=alias):
            named("one", log.append, "one")
            named("two", log.append, "two")
            roll_back()
        named("after", log.append, "after")
        return HttpResponse()

    assert everywhere.serve(view).get().status == 200
    assert log == ["before", "after"]
    assert our_log.messages == [f"2 background task(s) discarded, {ROLLED_BACK}: one, two"]


def test_savepoints_and_nested_blocks(site: Site, log: Log, our_log: OurLog) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            named("outer", log.append, "outer")
            with oops_caught(), transaction.atomic():
                named("inner, lost", log.append, "x")
                roll_back()
            with transaction.atomic():
                named("inner", log.append, "inner")
            with transaction.atomic(savepoint=False):
                named("last", log.append, "last")
        return HttpResponse()

    site.serve(view).get()
    assert log == ["outer", "inner", "last"]
    assert our_log.messages == [f"1 background task(s) discarded, {ROLLED_BACK}: inner, lost"]


def test_a_nested_block_goes_with_its_outer_one(site: Site, log: Log, our_log: OurLog) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        with oops_caught(), transaction.atomic(durable=True):
            with transaction.atomic():
                named("inner", log.append, "x")
            roll_back()
        return HttpResponse()

    site.serve(view).get()
    assert log == []
    assert our_log.messages == [f"1 background task(s) discarded, {ROLLED_BACK}: inner"]


def test_two_databases(site: Site, log: Log, our_log: OurLog) -> None:
    """A task of two transactions needs both; one that is over is none of its business."""

    @background_tasks
    def view(request: Any) -> HttpResponse:
        with transaction.atomic(using="other"):
            with oops_caught(), transaction.atomic():
                named("both", log.append, "x")
                roll_back()
            named("other", log.append, "other")
        with transaction.atomic():
            named("default", log.append, "default")
        return HttpResponse()

    site.serve(view).get()
    assert log == ["other", "default"]
    assert our_log.messages == [f"1 background task(s) discarded, {ROLLED_BACK}: both"]


def test_atomic_requests_and_a_response_that_rolls_back(
    site: Site, log: Log, our_log: OurLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django REST framework rolls back by ``set_rollback`` though it answers."""
    monkeypatch.setitem(connections["default"].settings_dict, "ATOMIC_REQUESTS", True)

    @background_tasks
    @api_view()  # type: ignore[untyped-decorator]
    def refused(request: Any) -> Response:
        named("refused", log.append, "x")
        set_rollback()
        return Response({}, status=400)

    @background_tasks
    def view(request: Any) -> HttpResponse:
        named("taken", log.append, connections["default"].in_atomic_block)
        return HttpResponse()

    site.serve(view, more={"refused": refused})
    assert site.get("/refused").status == 400
    assert site.get().status == 200
    assert log == [True]
    assert our_log.messages == [f"1 background task(s) discarded, {ROLLED_BACK}: refused"]


def test_always_means_always(site: Site, log: Log, our_log: OurLog) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        with oops_caught(), transaction.atomic():
            request.background_tasks.options(always=True).add_task(log.append, "always")
            roll_back()
        return HttpResponse()

    site.serve(view).get()
    assert log == ["always"]
    assert our_log.messages == []


def test_it_can_be_turned_off_for_a_task_and_for_all(site: Site, log: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        with oops_caught(), transaction.atomic():
            request.background_tasks.options(on_commit=False).add_task(log.append, "option")
            roll_back()
        return HttpResponse()

    @background_tasks
    def other(request: Any) -> HttpResponse:
        with oops_caught(), transaction.atomic():
            add_task(log.append, "setting")
            roll_back()
        return HttpResponse()

    site.serve(view, more={"other": other}).get()
    site.set(BACKGROUND_TASKS={"ON_COMMIT": False})
    site.get("/other")
    assert log == ["option", "setting"]


def test_a_failed_view_discards_as_ever(site: Site, log: Log, our_log: OurLog) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            named("one", log.append, "x")
            raise Oops("no")

    assert site.serve(view).get().status == 500
    assert log == []
    (only,) = our_log.messages
    assert only.startswith("1 background task(s) discarded, the response failed with Oops: no")


def test_a_queue_released_in_a_transaction_waits_for_it(log: Log, our_log: OurLog) -> None:
    """As in a script: the block of the queue ends before that of the transaction."""
    runtime = get_runtime()
    with transaction.atomic():
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.add_task(log.append, "committed")
        assert bgadapters.drain() == []
        assert log == []
        with pytest.raises(bgadapters.QueueClosedError, match="waiting for a commit"):
            tasks.add_task(log.append, "too late")
        tasks.release()
    bgadapters.drain()
    assert log == ["committed"]
    with oops_caught(), transaction.atomic():
        with BackgroundTasks(runtime=runtime) as tasks:
            tasks.options(name="lost").add_task(log.append, "x")
            tasks.options(always=True).add_task(log.append, "always")
        roll_back()
    bgadapters.drain()
    assert log == ["committed", "always"]
    assert our_log.messages == [f"1 background task(s) discarded, {ROLLED_BACK}: lost"]
    assert runtime.in_flight.in_use == 0


def test_places_of_discarded_tasks_are_given_back(site: Site, log: Log) -> None:
    site.set(BACKGROUND_TASKS={"MAX_PENDING": 2, "ON_FULL": "reject"})

    @background_tasks
    def view(request: Any) -> HttpResponse:
        with oops_caught(), transaction.atomic():
            add_task(log.append, "x")
            add_task(log.append, "x")
            roll_back()
        return HttpResponse()

    site.serve(view)
    for _ in range(3):
        assert site.get().status == 200
    assert get_runtime().in_flight.in_use == 0


def test_what_a_task_adds_in_a_transaction_of_its_own(
    site: Site, log: Log, our_log: OurLog
) -> None:
    def task() -> None:
        with oops_caught(), transaction.atomic():
            queue.options(name="lost").add_task(log.append, "x")
            roll_back()
        with transaction.atomic():
            queue.add_task(log.append, "kept")

    queue: Any = None

    @background_tasks
    def view(request: Any) -> HttpResponse:
        nonlocal queue
        queue = request.background_tasks
        queue.add_task(task)
        queue.add_task(log.append, "second")
        return HttpResponse()

    site.serve(view).get()
    assert log == ["second", "kept"]
    assert our_log.messages == [f"1 background task(s) discarded, {ROLLED_BACK}: lost"]


def test_an_earlier_function_that_fails(site: Site, log: Log) -> None:
    """Django then calls none of the later ones: the view knows, and its failure discards."""

    @background_tasks
    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            transaction.on_commit(roll_back)
            add_task(log.append, "x")
        return HttpResponse()

    assert site.serve(view).get().status == 500
    assert log == []


def test_a_transaction_that_has_committed_whatever_its_functions_did(site: Site, log: Log) -> None:
    """The view goes on where an earlier function has failed: the tasks of the block run."""

    @background_tasks
    def view(request: Any) -> HttpResponse:
        with oops_caught(), transaction.atomic():
            transaction.on_commit(roll_back)
            add_task(log.append, "committed")
        with oops_caught(), transaction.atomic():
            add_task(log.append, "x")
            roll_back()
        return HttpResponse()

    assert site.serve(view).get().status == 200
    assert log == ["committed"]


def test_a_savepoint_for_each_of_many_rows(
    site: Site, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task costs does not grow with their number."""
    rows = 100
    looks: list[Any] = []

    class Counted:
        def __set__(self, gate: Any, place: Any) -> None:
            gate.kept = place

        def __get__(self, gate: Any, _: Any) -> Any:
            looks.append(1)
            return gate.kept

    monkeypatch.setattr(commit._Commit, "place", Counted(), raising=False)

    @background_tasks
    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            for row in range(rows):
                with transaction.atomic():
                    add_task(log.append, row)
                    add_task(log.append, row)
        return HttpResponse()

    site.serve(view).get()
    assert len(log) == 2 * rows
    assert rows <= len(looks) < 10 * rows


def test_nothing_is_kept_in_the_connection(site: Site, log: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            add_task(log.append, 1)
            add_task(log.append, 2)
            log.append(len(connections["default"].run_on_commit))
        return HttpResponse()

    site.serve(view).get()
    assert log == [1, 1, 2]
    assert connections["default"].run_on_commit == []


def test_a_connection_that_breaks_in_the_transaction(site: Site, log: Log, our_log: OurLog) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        try:
            with transaction.atomic():
                named("lost", log.append, "x")
                connections["default"].close()
        except DatabaseError:  # pragma: no cover  as the database likes
            pass
        return HttpResponse()

    site.serve(view).get()
    assert log == []
    assert our_log.messages == [f"1 background task(s) discarded, {ROLLED_BACK}: lost"]


def test_threads_have_transactions_of_their_own(site: Site, log: Log) -> None:
    """The task is no part of a transaction that another thread has open."""
    begun, over = threading.Event(), threading.Event()

    def other() -> None:
        with transaction.atomic(using="other"):
            begun.set()
            over.wait()
        connections.close_all()

    @background_tasks
    def view(request: Any) -> HttpResponse:
        add_task(log.append, "task")
        return HttpResponse()

    thread = threading.Thread(target=other)
    thread.start()
    begun.wait()
    site.serve(view).get()
    over.set()
    thread.join()
    assert log == ["task"]
