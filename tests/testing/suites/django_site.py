"""A suite for Django: every client and factory, in the test's own transaction."""

from __future__ import annotations

import io
import threading
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import (
    AsyncClient,
    AsyncRequestFactory,
    Client,
    LiveServerTestCase,
    RequestFactory,
    TestCase,
    TransactionTestCase,
    override_settings,
)
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from rest_framework.decorators import api_view
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory

import bgadapters
from bgadapters.django import background_tasks
from bgadapters.django.asgi import get_asgi_application
from bgadapters.testing import BackgroundTasksTestMixin, Recorder

ran: list[tuple[int, int, threading.Thread]] = []  # which task, the users it saw, where


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    ran.clear()
    yield
    ran.clear()


def note(number: int) -> None:
    ran.append((number, User.objects.count(), threading.current_thread()))


async def anote(number: int) -> None:
    ran.append((number, await User.objects.acount(), threading.current_thread()))


def fail() -> None:
    raise ValueError("of a task")


def add() -> None:
    bgadapters.add_task(note, 1)
    bgadapters.add_task(anote, 2)
    bgadapters.add_task(note, 3)


@background_tasks
def view(request: HttpRequest) -> HttpResponse:
    add()
    return HttpResponse("fine")


@background_tasks
async def aview(request: HttpRequest) -> HttpResponse:
    add()
    return HttpResponse("fine")


@method_decorator(background_tasks, name="dispatch")
class ClassView(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        add()
        return HttpResponse("fine")


@api_view()  # type: ignore[untyped-decorator,unused-ignore]
@background_tasks
def rest(request: Any) -> Response:
    add()
    return Response({})


@background_tasks
def stream(request: HttpRequest) -> StreamingHttpResponse:
    def body() -> Iterator[bytes]:
        yield b"first "
        add()
        yield b"last"

    return StreamingHttpResponse(body())


@background_tasks
async def astream(request: HttpRequest) -> StreamingHttpResponse:
    async def body() -> AsyncIterator[bytes]:
        yield b"first "
        add()
        yield b"last"

    return StreamingHttpResponse(body())


@background_tasks
def file(request: HttpRequest) -> FileResponse:
    add()
    return FileResponse(io.BytesIO(b"a file"))


@background_tasks
def failing(request: HttpRequest) -> HttpResponse:
    bgadapters.add_task(fail)
    return HttpResponse("fine")


@background_tasks
def plain(request: HttpRequest) -> HttpResponse:
    bgadapters.add_task(ran.clear)
    return HttpResponse("fine")


def bare(request: HttpRequest) -> HttpResponse:
    add()
    return HttpResponse("fine")


urlpatterns = [
    path("view", view),
    path("aview", aview),
    path("class", ClassView.as_view()),
    path("rest", rest),
    path("stream", stream),
    path("astream", astream),
    path("file", file),
    path("fail", failing),
    path("bare", bare),
    path("plain", plain),
]
MIDDLEWARE = override_settings(MIDDLEWARE=["bgadapters.django.BackgroundTasksMiddleware"])
PATHS = ("/view", "/aview", "/class", "/rest")


def saw(users: int, times: int = 1) -> None:
    """All tasks have run, in order, and have seen so many users."""
    assert [(number, count) for number, count, _ in ran] == [(n, users) for n in (1, 2, 3)] * times
    ran.clear()


def saw_here(users: int) -> None:
    assert {thread for number, _, thread in ran if number != 2} == {threading.current_thread()}
    saw(users)


class OwnTransaction(TestCase):
    """Tasks see what the test has written and not committed."""

    @classmethod
    def setUpTestData(cls) -> None:
        User.objects.create(username="ada")

    def setUp(self) -> None:
        User.objects.create(username="grace")
        ran.clear()

    def test_client(self) -> None:
        for url in PATHS:
            self.client.get(url)
            saw_here(2)
            APIClient().get(url)
            saw_here(2)

    @MIDDLEWARE
    def test_client_below_the_middleware(self) -> None:
        for url in ("/bare", *PATHS):
            self.client.get(url)
            saw_here(2)

    def test_factories(self) -> None:
        view(RequestFactory().get("/view"))
        saw_here(2)
        ClassView.as_view()(RequestFactory().get("/class"))
        saw_here(2)
        rest(APIRequestFactory().get("/rest"))
        saw_here(2)
        assert file(RequestFactory().get("/file")).getvalue() == b"a file"
        saw_here(2)
        response = stream(RequestFactory().get("/stream"))
        assert ran == []
        assert response.getvalue() == b"first last"
        saw_here(2)

    def test_bodies(self) -> None:
        assert b"".join(self.client.get("/stream")) == b"first last"
        saw_here(2)
        assert b"".join(self.client.get("/file")) == b"a file"
        saw_here(2)
        with pytest.warns(Warning, match="must consume asynchronous iterators"):
            assert b"".join(self.client.get("/astream")) == b"first last"
        saw(2)

    async def test_async_client(self) -> None:
        for url in PATHS:
            await self.async_client.get(url)
            saw(2)
        response: Any = await self.async_client.get("/astream")
        assert b"".join([chunk async for chunk in response]) == b"first last"
        saw(2)

    @MIDDLEWARE
    async def test_async_client_below_the_middleware(self) -> None:
        for url in ("/bare", *PATHS):
            await self.async_client.get(url)
            saw(2)

    async def test_async_factories(self) -> None:
        await aview(RequestFactory().get("/aview"))
        saw(2)
        await aview(AsyncRequestFactory().get("/aview"))
        saw(2)

    def test_fails_with_the_task(self) -> None:
        self.client.get("/fail")

    async def test_fails_with_the_task_of_a_coroutine(self) -> None:
        await self.async_client.get("/fail")


class Mixed(BackgroundTasksTestMixin, TestCase):
    """The mixin does under pytest as well."""

    background_tasks_mode = "capture"

    def test_mixin(self) -> None:
        User.objects.create(username="ada")
        self.client.get("/view")
        assert ran == []
        self.background_tasks.run_pending()
        saw_here(1)

    async def test_mixin_in_a_coroutine(self) -> None:
        await User.objects.acreate(username="ada")
        await self.async_client.get("/view")
        await self.async_client.get("/aview")
        assert ran == []
        await self.background_tasks.arun_pending()
        saw(1, times=2)


class Committed(TransactionTestCase):
    def test_client(self) -> None:
        User.objects.create(username="ada")
        for url in PATHS:
            self.client.get(url)
            saw_here(1)

    async def test_async_client(self) -> None:
        await User.objects.acreate(username="ada")
        for url in PATHS:
            await self.async_client.get(url)
            saw(1)

    async def test_asgi_application(self) -> None:
        """It closes the connections of the thread, as in a server: no TestCase survives that."""
        await User.objects.acreate(username="ada")
        transport = httpx.ASGITransport(get_asgi_application())
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for url in PATHS:
                assert (await client.get(url)).status_code == 200
                saw(1)


class Live(LiveServerTestCase):
    def test_server(self) -> None:
        User.objects.create(username="ada")
        for url in (*PATHS, "/stream", "/file"):
            with urllib.request.urlopen(f"{self.live_server_url}{url}") as response:
                response.read()
            saw(1)

    def test_fails_with_the_task_of_a_server(self) -> None:
        urllib.request.urlopen(f"{self.live_server_url}/fail").close()


@pytest.mark.django_db
def test_fixture_client(client: Client, background_tasks: Recorder) -> None:
    User.objects.create(username="ada")
    for url in PATHS:
        client.get(url)
        saw_here(1)
    assert {task.path for task in background_tasks.tasks} == set(PATHS)


@pytest.mark.django_db(transaction=True)
def test_fixture_transactional(client: Client) -> None:
    User.objects.create(username="ada")
    for url in PATHS:
        client.get(url)
        saw_here(1)


@pytest.mark.django_db(transaction=True)
async def test_fixture_async_client(async_client: AsyncClient) -> None:
    await User.objects.acreate(username="ada")
    for url in PATHS:
        await async_client.get(url)
        saw(1)


@pytest.mark.django_db(transaction=True)
def test_fixture_live_server(live_server: Any) -> None:
    User.objects.create(username="ada")
    with urllib.request.urlopen(f"{live_server.url}/view") as response:
        response.read()
    saw(1)


@pytest.mark.django_db
@pytest.mark.background_tasks("capture")
def test_a_request_inside_of_a_block(client: Client, background_tasks: Recorder) -> None:
    with transaction.atomic():
        client.get("/view")
        assert background_tasks.run_pending() == 0
    assert background_tasks.run_pending() == 3
    saw_here(0)


@pytest.mark.django_db
def test_fails_with_the_task_of_a_request_inside_of_a_block(client: Client) -> None:
    with transaction.atomic():
        client.get("/fail")


def test_without_a_database(client: Client, background_tasks: Recorder) -> None:
    """Tasks touch no connection that they do not use themselves: pytest-django forbids it."""
    client.get("/plain")
    assert background_tasks.assert_added_once(ran.clear).outcome == "succeeded"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ["first", "second"])
def test_nothing_is_left_for_the_next(name: str, client: Client) -> None:
    User.objects.create(username=name)
    client.get("/view")
    saw_here(1)
