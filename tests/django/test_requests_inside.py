"""Views that call other views with requests of their own, as those of batches do."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.template import TemplateDoesNotExist
from django.template.response import TemplateResponse
from django.test import RequestFactory
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError

from bgadapters import add_task
from bgadapters.django import HttpRequest, background_tasks
from bgadapters.django.asgi import get_asgi_application
from tests.django.serving import Log, Site
from tests.gateways import asgi_calls, wsgi_calls
from tests.our_log import OurLog


def inner_request(**query: str) -> Any:
    return RequestFactory().get("/inner", query)


def call(view: Callable[[Any], Any], request: Any) -> Any:
    """Call a view as a batch does: what it raises is an answer of that part."""
    try:
        return view(request)
    except Http404:
        return HttpResponse(status=404)


@pytest.fixture
def one(log: Log) -> Callable[[Any], HttpResponse]:
    @background_tasks
    def one(request: HttpRequest) -> HttpResponse:
        name = request.GET["name"]
        request.background_tasks.add_task(log.append, f"{name} by request")
        add_task(log.append, f"{name} by add_task")
        request.background_tasks.options(always=True).add_task(log.append, f"{name} always")
        if "fails" in name:
            raise Http404
        return HttpResponse(name)

    return one


def test_their_tasks_join_the_queue_of_the_response_in_order(
    everywhere: Site, log: Log, our_log: OurLog, serve: Any, one: Callable[[Any], HttpResponse]
) -> None:
    def batch(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "before")
        for name in ("a", "fails", "b"):
            call(one, inner_request(name=name))
            add_task(log.append, f"after {name}")
        return HttpResponse()

    assert serve(everywhere, batch).get().status == 200
    assert log == [
        *("before", "a by request", "a by add_task", "a always", "after a"),
        *("fails always", "after fails"),
        *("b by request", "b by add_task", "b always", "after b"),
    ]
    (warning,) = our_log.warnings
    assert "2 background task(s) discarded, the response failed with Http404" in warning


def test_a_response_that_fails_discards_those_of_all_parts(
    everywhere: Site, log: Log, serve: Any, one: Callable[[Any], HttpResponse]
) -> None:
    def batch(request: Any) -> HttpResponse:
        one(inner_request(name="a"))
        raise Http404

    assert serve(everywhere, batch).get().status == 404
    assert log == ["a always"]


def test_parts_that_are_made_side_by_side_fail_for_themselves(handler: Site, log: Log) -> None:
    """Whose task it is does not depend on when it was added."""

    async def main(together: asyncio.Barrier) -> None:
        @background_tasks
        async def one(request: HttpRequest) -> HttpResponse:
            name = request.GET["name"]
            await together.wait()
            await sync_to_async(add_task)(log.append, name)
            await together.wait()
            if name == "fails":
                raise Http404
            return HttpResponse()

        parts = [one(inner_request(name=name)) for name in ("a", "fails", "b")]
        results = await asyncio.gather(*parts, return_exceptions=True)
        assert [type(each) for each in results] == [HttpResponse, Http404, HttpResponse]

    @background_tasks
    async def batch(request: HttpRequest) -> HttpResponse:
        await main(asyncio.Barrier(3))
        add_task(log.append, "after")
        return HttpResponse()

    assert handler.serve(batch).get().status == 200
    assert sorted(log[:2]) == ["a", "b"]
    assert log[2:] == ["after"]


@pytest.mark.parametrize("fails", ["marked response", "stream", "template"])
def test_a_part_that_fails_without_raising(everywhere: Site, log: Log, fails: str) -> None:
    @background_tasks
    @api_view(["GET"])  # type: ignore[untyped-decorator]
    def marked(request: Any) -> HttpResponse:
        add_task(log.append, "never")
        raise ValidationError

    @background_tasks
    def stream(request: Any) -> StreamingHttpResponse:
        def chunks() -> Any:
            yield b"half"
            raise KeyError

        add_task(log.append, "never")
        return StreamingHttpResponse(chunks())

    @background_tasks
    def template(request: Any) -> Any:
        add_task(log.append, "never")
        return TemplateResponse(request, "nowhere.html")

    @background_tasks
    def batch(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "before")
        view = {"marked response": marked, "stream": stream, "template": template}[fails]
        response: Any = view(inner_request())
        if fails == "stream":
            with pytest.raises(KeyError):
                list(response)
        elif fails == "template":
            with pytest.raises(TemplateDoesNotExist):
                response.render()
        add_task(log.append, "after")
        return HttpResponse()

    assert everywhere.serve(batch).get().status == 200
    assert log == ["before", "after"]


def test_a_part_of_a_part(everywhere: Site, log: Log, one: Callable[[Any], HttpResponse]) -> None:
    """What a failed part has made of others fails with it."""

    @background_tasks
    def middle(request: HttpRequest) -> HttpResponse:
        one(inner_request(name="a"))
        raise Http404

    @background_tasks
    def batch(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "before")
        call(middle, inner_request())
        one(inner_request(name="b"))
        return HttpResponse()

    assert everywhere.serve(batch).get().status == 200
    assert log == ["before", "a always", "b by request", "b by add_task", "b always"]


@pytest.mark.parametrize("how", ["of its environ", "copied"])
def test_a_request_that_is_made_of_the_outer_one(
    site: Site, log: Log, how: str, one: Callable[[Any], HttpResponse]
) -> None:
    @background_tasks
    def batch(request: Any) -> HttpResponse:
        made: Any = (
            WSGIRequest(dict(request.environ)) if how == "of its environ" else copy.copy(request)
        )
        made.GET = {"name": "a"}
        return one(made)

    assert site.serve(batch).get().status == 200
    assert log == ["a by request", "a by add_task", "a always"]


def test_a_request_that_another_handler_serves_has_a_response_of_its_own(
    site: Site, log: Log, one: Callable[[Any], HttpResponse]
) -> None:
    @background_tasks
    def outer(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "before")
        env = {**wsgi_calls.environ("GET", "/inner"), "QUERY_STRING": "name=fails"}
        assert wsgi_calls.serve(WSGIHandler(), env).status.startswith("404")
        add_task(log.append, "after")
        return HttpResponse()

    assert site.serve(outer, more={"inner": one}).get().status == 200
    assert sorted(log) == ["after", "before", "fails always"]
    assert log.index("before") < log.index("after")


def test_under_our_asgi_application(
    site: Site, log: Log, one: Callable[[Any], HttpResponse], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is that of the ASGI middleware."""

    @background_tasks
    def batch(request: HttpRequest) -> HttpResponse:
        add_task(log.append, "before")
        call(one, inner_request(name="fails"))
        one(inner_request(name="a"))
        return HttpResponse()

    async def main() -> None:
        client = asgi_calls.Client()
        await client.request(get_asgi_application())
        assert client.status == 200

    monkeypatch.setattr("django.setup", lambda **_: None)
    site.serve(batch)
    asyncio.run(main())
    assert log == ["before", "fails always", "a by request", "a by add_task", "a always"]
