"""What fails a response, and that its tasks are discarded then; a failing task fails nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpResponse, JsonResponse
from django.template.response import TemplateResponse

from bgadapters import add_task
from bgadapters.django import HttpRequest, background_tasks
from tests.django.serving import MIDDLEWARE, Log, Site
from tests.our_log import OurLog
from tests.views import add_both


@pytest.mark.parametrize("error", [Http404, PermissionDenied, SuspiciousOperation, KeyError])
@pytest.mark.parametrize("kind", ["sync", "async", "middleware"])
def test_an_exception_discards_and_the_error_page_may_add(
    everywhere: Site,
    log: Log,
    our_log: OurLog,
    error: type[Exception],
    kind: str,
) -> None:
    def view(request: Any) -> HttpResponse:
        add_both(request.background_tasks, log)
        raise error

    @background_tasks
    async def async_view(request: Any) -> HttpResponse:
        return view(request)

    def error_page(request: Any, exception: Any = None) -> HttpResponse:
        request.background_tasks.add_task(log.append, "page")
        return HttpResponse("page", status=500)

    views = {"sync": background_tasks(view), "async": async_view, "middleware": view}
    everywhere.serve(views[kind], MIDDLEWARE=[MIDDLEWARE] if kind == "middleware" else [])
    everywhere.handle_500(error_page)
    reply = everywhere.get()
    assert reply.status >= 400
    assert log == ["always", "page"] if error is KeyError else log == ["always"]
    discarded = our_log.messages
    assert len(discarded) == 1
    assert "1 background task(s) discarded" in discarded[0]


def broken_outside(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        get_response(request)
        raise KeyError

    return middleware


def test_an_exception_in_a_middleware_above_discards(everywhere: Site, log: Log) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        add_both(request.background_tasks, log)
        return HttpResponse()

    everywhere.serve(view, MIDDLEWARE=[f"{__name__}.broken_outside"])
    assert everywhere.get().status == 500
    assert log == ["always"]


def test_a_template_that_cannot_be_rendered_discards(everywhere: Site, log: Log) -> None:
    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        add_both(request.background_tasks, log)
        return TemplateResponse(request, "nowhere.html")

    assert everywhere.serve(view).get().status == 500
    assert log == ["always"]


def test_a_failing_task_reaches_nobody(
    everywhere: Site, log: Log, serve: Any, our_log: OurLog
) -> None:
    def fails() -> None:
        raise SystemExit(3)

    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(fails)
        request.background_tasks.add_task(log.append, "ran")
        return HttpResponse("body")

    assert serve(everywhere, view).get().body == b"body"
    assert log == ["ran"]
    assert [record.levelname for record in our_log.records] == ["ERROR"]


def test_a_view_that_returns_nothing_discards(everywhere: Site, log: Log, serve: Any) -> None:
    def view(request: Any) -> None:
        request.background_tasks.add_task(log.append, "never")

    assert serve(everywhere, view).get().status == 500
    assert log == []


def test_an_error_page_may_add_tasks_through_add_task(
    everywhere: Site, log: Log, serve: Any
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "never")
        raise KeyError

    @background_tasks
    def error_page(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "page")
        return HttpResponse("page", status=500)

    serve(everywhere, view).handle_500(error_page)
    assert everywhere.get().status == 500
    assert log == ["page"]


def answering(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A middleware that answers exceptions of the view, as those of web APIs do."""

    def middleware(request: Any) -> Any:
        return get_response(request)

    middleware.process_exception = lambda _, exc: JsonResponse(  # type: ignore[attr-defined]
        {"error": str(exc)}, status=400
    )
    return middleware


@pytest.mark.parametrize("ours_is", ["no middleware", "the last middleware"])
def test_an_exception_answered_by_another_middleware_discards(
    everywhere: Site, log: Log, ours_is: str
) -> None:
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "never")
        raise KeyError

    other = f"{__name__}.answering"
    if ours_is == "no middleware":
        everywhere.serve(background_tasks(view), MIDDLEWARE=[other])
    else:
        everywhere.serve(view, MIDDLEWARE=[other, MIDDLEWARE])
    assert everywhere.get().status == 400
    assert log == []
