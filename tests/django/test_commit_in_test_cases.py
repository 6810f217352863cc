"""Transactions in Django's own test cases, of which some never commit."""

from __future__ import annotations

from functools import partial
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, transaction
from django.http import HttpResponse
from django.test import RequestFactory, TestCase, TransactionTestCase, override_settings

import bgadapters
from bgadapters import BackgroundTasks, add_task
from bgadapters.django import background_tasks
from bgadapters.django.signals import task_succeeded
from bgadapters.testing import BackgroundTasksTestMixin, capture_tasks, run_tasks
from tests.django.serving import URLConf


def in_a_transaction() -> bool:
    return connections["default"].in_atomic_block


LOG: list[Any] = []


def task(what: str) -> None:
    LOG.append((what, in_a_transaction()))


def respond(request: Any) -> HttpResponse:
    add_task(task, "outside")
    with transaction.atomic():
        add_task(task, "committed")
    try:
        with transaction.atomic():
            add_task(task, "rolled back")
            raise ValueError
    except ValueError:
        pass
    return HttpResponse()


view = background_tasks(respond)


@background_tasks
async def async_view(request: Any) -> HttpResponse:
    await sync_to_async(respond)(request)
    return HttpResponse()


class _Requests:
    """The same in every kind of test case."""

    client: Any
    async_client: Any
    is_wrapped: bool

    def setUp(self) -> None:
        LOG.clear()

    def expect(self) -> None:
        """Both tasks ran, in the thread and the transaction of the test, and the third did not."""
        expected = [("outside", self.is_wrapped), ("committed", self.is_wrapped)]
        assert expected == LOG

    def test_client(self) -> None:
        self.client.get("/")
        self.expect()

    def test_client_and_async_view(self) -> None:
        self.client.get("/async")
        self.expect()

    async def test_async_client(self) -> None:
        await self.async_client.get("/")
        self.expect()

    async def test_async_client_and_async_view(self) -> None:
        await self.async_client.get("/async")
        self.expect()

    def test_a_view_called_by_hand(self) -> None:
        view(RequestFactory().get("/"))
        self.expect()

    def receive(self, **_: Any) -> None:
        """A receiver of an async task's signal, which uses the ORM."""
        connections["default"].ensure_connection()
        task("received")

    def test_receivers(self) -> None:
        task_succeeded.connect(self.receive)
        try:
            self.client.get("/task")
        finally:
            task_succeeded.disconnect(self.receive)
        assert [("received", self.is_wrapped)] == LOG

    async def test_receivers_and_async_client(self) -> None:
        task_succeeded.connect(self.receive)
        try:
            await self.async_client.get("/task")
        finally:
            task_succeeded.disconnect(self.receive)
        assert [("received", self.is_wrapped)] == LOG

    def test_atomic_requests(self) -> None:
        settings = connections["default"].settings_dict
        settings["ATOMIC_REQUESTS"] = True
        try:
            self.client.get("/")
        finally:
            settings["ATOMIC_REQUESTS"] = False
        self.expect()


@background_tasks
def hooked(request: Any) -> HttpResponse:
    def add() -> None:
        for what in ("by add_task", "the next"):
            add_task(task, what)

    transaction.on_commit(add)
    transaction.on_commit(partial(request.background_tasks.add_task, task, "by request"))
    add_task(task, "first")
    return HttpResponse()


@background_tasks
async def async_task_view(request: Any) -> HttpResponse:
    async def succeeds() -> None: ...

    add_task(succeeds)
    return HttpResponse()


URLS = override_settings(
    ROOT_URLCONF=URLConf(
        {"": view, "async": async_view, "hooked": hooked, "task": async_task_view}
    ),
)


@URLS
class TestWrapped(_Requests, BackgroundTasksTestMixin, TestCase):
    is_wrapped = True

    def test_captured_callbacks(self) -> None:
        """What Django's own helper executes has run already, and does not run again."""
        with self.captureOnCommitCallbacks(execute=True):
            self.client.get("/")
        self.expect()

    def test_captured_callbacks_may_add(self) -> None:
        """As where they are committed: the response is complete, but not for them."""
        for _ in range(2):
            LOG.clear()
            with self.captureOnCommitCallbacks(execute=True):
                self.client.get("/hooked")
                assert LOG == [("first", True)]
            names = ("first", "by add_task", "the next", "by request")
            assert [(name, True) for name in names] == LOG

    def test_callbacks_that_the_test_never_calls(self) -> None:
        self.client.get("/hooked")
        assert LOG == [("first", True)]

    def test_captured_callbacks_of_a_view_called_by_hand(self) -> None:
        with self.captureOnCommitCallbacks(execute=True):
            hooked(RequestFactory().get("/"))
        assert LOG[0] == ("first", True)
        assert [what for what, _ in LOG[1:]] == ["by add_task", "the next", "by request"]

    def test_captured_tasks_of_callbacks_are_kept(self) -> None:
        with capture_tasks() as tasks:
            with self.captureOnCommitCallbacks(execute=True):
                self.client.get("/hooked")
            assert [each.outcome for each in tasks.tasks] == ["pending"] * 4
            assert LOG == []
            assert tasks.run_pending() == 4
        assert len(LOG) == 4

    def test_a_queue_released_in_the_tests_own_block(self) -> None:
        with self.captureOnCommitCallbacks(execute=True), transaction.atomic():
            with BackgroundTasks(runtime=runtime()) as tasks:
                tasks.add_task(task, "committed")
            assert LOG == []
        assert LOG == [("committed", True)]


@URLS
class TestNotWrapped(_Requests, BackgroundTasksTestMixin, TransactionTestCase):
    is_wrapped = False


@URLS
class TestWithoutTheToolkit(TestCase):
    def test_tasks_run_in_worker_threads(self) -> None:
        LOG.clear()
        self.client.get("/")
        bgadapters.drain()
        assert LOG == [("outside", False), ("committed", False)]

    def test_for_a_block(self) -> None:
        LOG.clear()
        with run_tasks():
            self.client.get("/")
            assert LOG == [("outside", True), ("committed", True)]


def runtime() -> Any:
    from bgadapters.django.runtime import get_runtime

    return get_runtime()
