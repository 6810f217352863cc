"""The decorator, on every kind of view and among other decorators."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
from django.contrib.syndication.views import Feed
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_GET
from django.views.generic import TemplateView

import bgadapters
from bgadapters import BackgroundTasks, NoResponseError, add_task
from bgadapters.django import background_tasks
from tests.django.serving import Log, Site, as_async, body


def test_a_sync_view_gets_the_queue(everywhere: Site) -> None:
    log: list[str] = []

    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "first")
        request.background_tasks.add_task(log.append, "second")
        return body()

    assert everywhere.serve(view).get().body == b"body"
    assert log == ["first", "second"]


def test_an_async_view_gets_the_queue(everywhere: Site) -> None:
    log: list[str] = []

    async def task() -> None:
        log.append("async task")

    @background_tasks
    async def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "task")
        request.background_tasks.add_task(task)
        return body()

    assert everywhere.serve(view).get().body == b"body"
    assert log == ["task", "async task"]


@pytest.mark.parametrize("make", [lambda view: view, as_async], ids=["sync", "async"])
def test_a_view_that_adds_nothing_makes_no_batch(everywhere: Site, make: Any) -> None:
    queues: list[Any] = []

    def view(request: Any) -> HttpResponse:
        queues.append(request.background_tasks)
        return body()

    assert everywhere.serve(background_tasks(make(view))).get().body == b"body"
    assert [queue.is_used for queue in queues] == [False]
    assert not queues[0].is_open


def test_the_arguments_of_the_url_reach_the_view(site: Site) -> None:
    calls: list[Any] = []

    @background_tasks
    def view(request: Any, email: str) -> HttpResponse:
        request.background_tasks.add_task(lambda *a, **k: calls.append((a, k)), email, name="kept")
        return body()

    site.serve(more={"send/<str:email>": view}).get("/send/ada@example.org")
    assert calls == [(("ada@example.org",), {"name": "kept"})]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_class_based_view_gets_the_queue(everywhere: Site, kind: str) -> None:
    log: list[str] = []

    @method_decorator(background_tasks, name="dispatch")
    class Sync(View):
        def get(self, request: Any) -> HttpResponse:
            request.background_tasks.add_task(log.append, "request")
            self.request.background_tasks.add_task(log.append, "self.request")  # type: ignore[attr-defined]
            add_task(log.append, "add_task")
            return body()

    @method_decorator(background_tasks, name="dispatch")
    class Async(View):
        async def get(self, request: Any) -> HttpResponse:
            request.background_tasks.add_task(log.append, "request")
            self.request.background_tasks.add_task(log.append, "self.request")  # type: ignore[attr-defined]
            add_task(log.append, "add_task")
            return body()

    view = Sync if kind == "sync" else Async
    assert everywhere.serve(view.as_view()).get().body == b"body"
    assert log == ["request", "self.request", "add_task"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_one_method_of_a_class_may_be_decorated(everywhere: Site, kind: str) -> None:
    log: list[str] = []

    class Sync(View):
        @method_decorator(background_tasks)
        def get(self, request: Any) -> HttpResponse:
            request.background_tasks.add_task(log.append, "task")
            return body()

    class Async(View):
        @method_decorator(background_tasks)
        async def get(self, request: Any) -> HttpResponse:
            request.background_tasks.add_task(log.append, "task")
            return body()

    view = Sync if kind == "sync" else Async
    assert everywhere.serve(view.as_view()).get().body == b"body"
    assert log == ["task"]


def test_as_view_may_be_decorated(everywhere: Site) -> None:
    log: list[str] = []

    class Async(View):
        async def get(self, request: Any) -> HttpResponse:
            request.background_tasks.add_task(log.append, "task")
            return body()

    assert everywhere.serve(background_tasks(Async.as_view())).get().body == b"body"
    assert log == ["task"]


def test_parentheses_change_nothing(everywhere: Site) -> None:
    log: list[str] = []

    @background_tasks()
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "task")
        return body()

    assert everywhere.serve(view).get().body == b"body"
    assert log == ["task"]


def test_a_view_without_the_decorator_is_told_what_to_add(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(print)
        return body()

    assert site.serve(view).get().status == 500
    assert "with the decorator @background_tasks, from bgadapters.django, or with" in caplog.text


def test_an_attribute_of_something_else_is_not_explained(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    def view(request: Any) -> HttpResponse:
        raise AttributeError(name="background_tasks", obj=view)

    assert site.serve(view).get().status == 500
    assert "AttributeError" in caplog.text
    assert "@background_tasks" not in caplog.text


def test_a_class_itself_is_refused() -> None:
    with pytest.raises(TypeError, match=r"method_decorator\(background_tasks, name='dispatch'\)"):
        background_tasks(TemplateView)


def test_what_is_no_view_is_refused() -> None:
    with pytest.raises(TypeError, match="decorates a view function, not 5"):
        background_tasks(5)  # type: ignore[call-overload]


def test_a_decorated_method_says_how_it_should_be_decorated(site: Site) -> None:
    class Wrong(View):
        @background_tasks
        def get(self, request: Any) -> HttpResponse:
            return body()

    with pytest.raises(TypeError, match=r"Wrong\.get got Wrong where it expects the request"):
        Wrong().get(HttpRequest())
    assert site.serve(Wrong.as_view()).get().status == 500


def a_project_decorator(view: Callable[..., Any]) -> Callable[..., Any]:
    """A sync decorator as projects write them, ``login_required`` and the like."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        request.META["CHECKED"] = "yes"
        return view(request, *args, **kwargs)

    return wrapper


DECORATORS = [csrf_exempt, require_GET, never_cache, gzip_page, a_project_decorator]


@pytest.mark.parametrize("other", DECORATORS)
@pytest.mark.parametrize("place", ["below", "above"])
def test_other_decorators_may_be_above_and_below(everywhere: Site, place: str, other: Any) -> None:
    log: list[str] = []

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "task")
        return body("body " * 100)

    made = other(background_tasks(view)) if place == "below" else background_tasks(other(view))
    assert everywhere.serve(made).get().body == b"body " * 100
    assert log == ["task"]


@pytest.mark.parametrize("other", [csrf_exempt, require_GET, never_cache, gzip_page])
@pytest.mark.parametrize("place", ["below", "above"])
def test_other_decorators_may_be_above_and_below_an_async_view(
    everywhere: Site, place: str, other: Any
) -> None:
    log: list[str] = []

    async def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "task")
        return body("body " * 100)

    made = other(background_tasks(view)) if place == "below" else background_tasks(other(view))
    assert everywhere.serve(made).get().body == b"body " * 100
    assert log == ["task"]


def test_marks_of_other_decorators_stay_on_the_view() -> None:
    @background_tasks
    @csrf_exempt
    def view(request: Any) -> HttpResponse:
        return body()

    assert vars(view)["csrf_exempt"]
    assert view.__name__ == "view"


def test_a_view_decorated_twice_has_one_queue(everywhere: Site) -> None:
    log: list[str] = []

    @background_tasks
    @a_project_decorator
    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "task")
        return body()

    everywhere.serve(view).get()
    assert log == ["task"]


def test_below_the_view_add_task_needs_no_request(everywhere: Site) -> None:
    log: list[str] = []

    def service() -> None:
        add_task(log.append, "task")

    @background_tasks
    def view(request: Any) -> HttpResponse:
        service()
        return body()

    @background_tasks
    async def async_view(request: Any) -> HttpResponse:
        service()
        return body()

    everywhere.serve(view, more={"async": async_view})
    everywhere.get()
    everywhere.get("/async")
    assert log == ["task", "task"]


def test_without_decorator_and_middleware_add_task_is_refused(site: Site) -> None:
    refused: list[str] = []

    def view(request: Any) -> HttpResponse:
        try:
            add_task(print)
        except NoResponseError as exc:
            refused.append(str(exc))
        return body()

    site.serve(view).get()
    assert "@background_tasks or the middleware in Django" in refused[0]


def test_the_end_of_a_response_ends_the_reach_of_add_task(site: Site) -> None:
    log: list[str] = []

    @background_tasks
    def inner(request: Any) -> HttpResponse:
        add_task(log.append, "task")
        return body()

    def outer(request: Any) -> HttpResponse:
        response = inner(request)
        add_task(log.append, "added above the decorator")
        return response

    assert site.serve(outer).get().status == 200
    assert log == ["task", "added above the decorator"]
    with pytest.raises(NoResponseError):
        add_task(log.append, "refused")


def test_every_request_has_a_queue_of_its_own(site: Site) -> None:
    queues: list[BackgroundTasks] = []

    @background_tasks
    def view(request: Any) -> HttpResponse:
        queues.append(request.background_tasks)
        return body()

    site.serve(view)
    site.get()
    site.get()
    assert queues[0] is not queues[1]


def test_a_task_may_add_a_task_to_its_own_queue(everywhere: Site) -> None:
    log: list[str] = []

    @background_tasks
    def view(request: Any) -> HttpResponse:
        def first() -> None:
            log.append("first")
            request.background_tasks.add_task(log.append, "third")
            add_task(log.append, "fourth")

        request.background_tasks.add_task(first)
        request.background_tasks.add_task(log.append, "second")
        return body()

    everywhere.serve(view).get()
    assert log == ["first", "second", "third", "fourth"]


class News(Feed):  # type: ignore[type-arg]
    """A view that is an object."""

    title, link, description = "News", "/", "Nothing"

    def __init__(self, log: Log) -> None:
        self.log = log

    def items(self) -> list[Any]:
        add_task(self.log.append, "ran")
        return []


def test_a_view_may_be_a_callable_object(everywhere: Site, log: Log, serve: Any) -> None:
    assert b"Nothing" in serve(everywhere, News(log)).get().body
    assert log == ["ran"]


def test_a_view_that_is_called_by_hand_runs_its_tasks(log: Log) -> None:
    """As in a unit test that calls the view with a request of ``RequestFactory``."""

    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "ran")
        return HttpResponse("body")

    request: Any = RequestFactory().get("/")
    for _ in range(2):
        assert view(request).content == b"body"
    bgadapters.drain()
    assert log == ["ran", "ran"]
    request.close()
    bgadapters.drain()
    assert log == ["ran", "ran"]
    with pytest.raises(NoResponseError):
        add_task(log.append, "refused")
