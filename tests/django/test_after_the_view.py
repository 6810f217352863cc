"""What adds or fails after the view has returned, while its response is still being made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import Http404, HttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views.generic import TemplateView

from bgadapters import NoResponseError, add_task
from bgadapters.django import BackgroundTasksMiddleware, HttpRequest, background_tasks
from tests.django.serving import HOSTS, MIDDLEWARE, Log, Site
from tests.our_log import OurLog
from tests.views import add_both


@pytest.fixture
def atomic_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of a connection are read for each request."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)


@pytest.mark.parametrize("where", ["add_task", "request", "in a block"])
def test_a_function_of_on_commit_adds_to_the_queue(
    handler: Site, log: Log, serve: Any, atomic_requests: None, where: str
) -> None:
    """With ``ATOMIC_REQUESTS`` it is called when the view, and the decorator, have returned."""

    def view(request: Any) -> HttpResponse:
        def hook() -> None:
            log.append("committed")
            add_task(log.append, "ran")

        by_request = partial(request.background_tasks.add_task, log.append, "ran")
        if where == "in a block":
            with transaction.atomic():
                transaction.on_commit(hook)
        else:
            transaction.on_commit(hook if where == "add_task" else by_request)
        request.background_tasks.add_task(log.append, "first")
        return HttpResponse()

    assert serve(handler, view).get().status == 200
    assert [each for each in log if each != "committed"] == ["first", "ran"]
    with pytest.raises(NoResponseError):
        add_task(log.append, "refused")


def template(text: str) -> Any:
    return engines["django"].from_string(text)


@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_what_a_template_calls_adds_to_the_queue(
    everywhere: Site, log: Log, serve: Any, view_is: str
) -> None:
    def total() -> int:
        add_task(log.append, "counted")
        return 7

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "first")
        return TemplateResponse(request, template("{{ total }}"), {"total": total})

    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    assert serve(everywhere, view if view_is == "sync" else async_view).get().body == b"7"
    assert log == ["first", "counted"]


@pytest.mark.parametrize("error", [Http404, PermissionDenied, KeyError])
def test_an_exception_while_a_template_is_rendered_discards(
    everywhere: Site, log: Log, our_log: OurLog, serve: Any, error: type[Exception]
) -> None:
    def missing() -> None:
        raise error

    class Page(TemplateView):
        def get_template_names(self) -> Any:
            return template("{{ total }}")

        def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            add_both(request.background_tasks, log)
            return super().get(request, *args, total=missing)

    assert serve(everywhere, Page.as_view()).get().status >= 400
    assert log == ["always"]
    (warning,) = our_log.warnings
    assert error.__name__ in warning


class AsyncPage(TemplateResponse):
    async def render(self) -> Any:  # type: ignore[override]  # which Django awaits
        return super().render()


@pytest.mark.parametrize("fails", [False, True])
def test_a_response_that_is_rendered_by_a_coroutine(log: Log, fails: bool) -> None:
    """Django awaits it under ASGI."""

    def total() -> int:
        if fails:
            raise Http404
        add_task(log.append, "counted")
        return 7

    @background_tasks
    async def view(request: HttpRequest) -> HttpResponse:
        add_both(request.background_tasks, log)
        return AsyncPage(request, template("{{ total }}"), {"total": total})

    with Site(HOSTS["asgi"]) as site:
        assert site.serve(view).get().status == (404 if fails else 200)
    assert log == (["always"] if fails else ["never", "always", "counted"])


def test_a_response_that_was_rendered_can_be_cached(site: Site, log: Log) -> None:
    @method_decorator(background_tasks, name="dispatch")
    class Page(TemplateView):
        def get_template_names(self) -> Any:
            return template("page")

        def get(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            request.background_tasks.add_task(log.append, "ran")
            return super().get(request, *args, **kwargs)

    name = "django.middleware.cache"
    cache.clear()
    site.serve(
        Page.as_view(),
        MIDDLEWARE=[f"{name}.UpdateCacheMiddleware", f"{name}.FetchFromCacheMiddleware"],
    )
    assert [site.get().body for _ in range(2)] == [b"page"] * 2
    assert log == ["ran"]


def late(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        get_response(request)
        raise Http404("too late")

    return middleware


@pytest.mark.parametrize("view_is", ["sync", "async"])
def test_an_exception_of_the_middleware_below_discards(
    everywhere: Site, log: Log, our_log: OurLog, view_is: str
) -> None:
    """Django makes a response of it between the two; ours sees what it was."""

    def view(request: Any) -> HttpResponse:
        add_both(request.background_tasks, log)
        return HttpResponse()

    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    everywhere.serve(
        view if view_is == "sync" else async_view, MIDDLEWARE=[MIDDLEWARE, f"{__name__}.late"]
    )
    assert everywhere.get().status == 404
    assert log == ["always"]
    (warning,) = our_log.warnings
    assert "Http404: too late" in warning


def test_a_page_of_an_error_may_add_to_the_queue_of_the_decorator(
    everywhere: Site, log: Log
) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        add_both(request.background_tasks, log)
        raise KeyError

    def error_page(request: Any) -> HttpResponse:
        add_task(log.append, "page")
        return HttpResponse("page", status=500)

    everywhere.serve(view).handle_500(error_page)
    assert everywhere.get().status == 500
    assert log == ["always", "page"]


def test_a_middleware_that_is_made_by_hand_leaves_what_it_gets_as_it_is() -> None:
    """Only Django's own wrapper is left out."""
    marks: list[str] = []

    def wrapped(_: Any) -> HttpResponse:
        raise AssertionError

    def get_response(_: Any) -> HttpResponse:
        marks.append("called")
        return HttpResponse()

    get_response.__wrapped__ = wrapped  # type: ignore[attr-defined]
    from django.test import RequestFactory

    assert BackgroundTasksMiddleware(get_response)(RequestFactory().get("/")).status_code == 200
    assert marks == ["called"]
