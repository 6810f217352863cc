"""One view on every framework, served in process as servers do: sync and async, WSGI and ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

import bgadapters
from bgadapters import asgi, wsgi
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways import asgi_calls, wsgi_calls

Work = Callable[[Any], None]
"""What a view does with its queue."""
Answer = int | Exception | Callable[[Any], Iterator[bytes]]
"""What it then answers: a status, an exception that it raises, or a stream of parts."""
Serve = Callable[[Work, Answer], int]
"""Serves one request, lets its tasks finish, and returns the status; 0 if there was none."""

Events = Callable[[Any], None]


class _Client(asgi_calls.Client):
    @property
    def status(self) -> int:
        starts = [each for each in self.messages if each["type"] == "http.response.start"]
        return int(starts[0]["status"]) if starts else 0


def _call_asgi(app: Any) -> int:
    async def main() -> int:
        client = _Client()
        with suppress(LookupError, ExceptionGroup):  # a server logs it
            await client.request(app)
        await bgadapters.adrain(10)
        return client.status

    return asyncio.run(main())


def _call_wsgi(app: Any) -> int:
    exchange = wsgi_calls.Exchange()
    with suppress(LookupError):  # a server logs it
        exchange.body = app(wsgi_calls.environ(), exchange.start_response)
        exchange.read()
    exchange.close()
    bgadapters.drain(10)
    return int(exchange.status[:3] or 0)


async def _as_async(parts: Iterator[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part
        await asyncio.sleep(0)


def fastapi(is_async: bool, on_event: Events) -> Serve:
    def serve(work: Work, answer: Answer) -> int:
        app = FastAPI()
        init_app(app, on_event=on_event)

        def respond(queue: Any) -> Any:
            work(queue)
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, int):
                return Response(status_code=answer)
            return StreamingResponse(_as_async(answer(queue)) if is_async else answer(queue))

        def view(background_tasks: BackgroundTasks) -> Any:
            return respond(background_tasks)

        async def aview(background_tasks: BackgroundTasks) -> Any:
            return respond(background_tasks)

        app.get("/", response_model=None)(aview if is_async else view)
        return _call_asgi(app)

    return serve


def django(is_async: bool, on_event: Events, is_asgi: bool, has_gateway: bool) -> Serve:
    from django.http import HttpResponse, StreamingHttpResponse
    from django.test import override_settings

    from bgadapters.django import background_tasks
    from tests.django.serving import URLConf

    def handler() -> Any:
        if is_asgi:
            from django.core.handlers.asgi import ASGIHandler

            from bgadapters.django.asgi import get_asgi_application

            return get_asgi_application() if has_gateway else ASGIHandler()
        from django.core.handlers.wsgi import WSGIHandler

        from bgadapters.django.wsgi import get_wsgi_application

        return get_wsgi_application() if has_gateway else WSGIHandler()

    def serve(work: Work, answer: Answer) -> int:
        def respond(request: Any) -> Any:
            work(request.background_tasks)
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, int):
                return HttpResponse(status=answer)
            parts = answer(request.background_tasks)
            return StreamingHttpResponse(_as_async(parts) if is_asgi else parts)

        async def arespond(request: Any) -> Any:
            return respond(request)

        view = background_tasks(arespond if is_async else respond)
        settings = {"ON_EVENT": on_event}
        with override_settings(ROOT_URLCONF=URLConf({"": view}), BACKGROUND_TASKS=settings):
            return (_call_asgi if is_asgi else _call_wsgi)(handler())

    return serve


def flask(is_async: bool, on_event: Events) -> Serve:
    import flask as framework

    from bgadapters.flask import BackgroundTasks as Extension

    def serve(work: Work, answer: Answer) -> int:
        app = framework.Flask("options")
        tasks = Extension(app, on_event=on_event)

        def respond() -> Any:
            work(tasks)
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, int):
                return framework.Response(status=answer)
            return framework.Response(answer(bgadapters))  # a stream has no request any more

        async def arespond() -> Any:
            return respond()

        app.get("/")(arespond if is_async else respond)
        return _call_wsgi(app)

    return serve


def any_asgi(is_async: bool, on_event: Events) -> Serve:
    def serve(work: Work, answer: Answer) -> int:
        async def app(_: Any, __: Any, send: Any) -> None:
            work(_Current())
            if isinstance(answer, Exception):
                raise answer
            status = answer if isinstance(answer, int) else 200
            await send({"type": "http.response.start", "status": status, "headers": []})
            if not isinstance(answer, int):
                async for part in _as_async(answer(bgadapters)):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        return _call_asgi(asgi.BackgroundTasksMiddleware(app, on_event=on_event))

    return serve


def any_wsgi(is_async: bool, on_event: Events) -> Serve:
    def serve(work: Work, answer: Answer) -> int:
        def app(_: Any, start_response: Any) -> Any:
            work(_Current())
            if isinstance(answer, Exception):
                raise answer
            status = answer if isinstance(answer, int) else 200
            start_response(f"{status} Said", [])
            return [] if isinstance(answer, int) else answer(bgadapters)

        return _call_wsgi(wsgi.BackgroundTasksMiddleware(app, on_event=on_event))

    return serve


class _Current:
    """The current queue, where no framework hands it over."""

    def __getattr__(self, name: str) -> Any:
        from bgadapters.adapters import current_queue

        return getattr(current_queue(), name)


MAKE: dict[str, Callable[[Events], Serve]] = {
    "fastapi, sync view": lambda heard: fastapi(False, heard),
    "fastapi, async view": lambda heard: fastapi(True, heard),
    "django, wsgi": lambda heard: django(False, heard, False, False),
    "django, asgi, sync view": lambda heard: django(False, heard, True, False),
    "django, asgi, async view": lambda heard: django(True, heard, True, False),
    "django, our asgi": lambda heard: django(True, heard, True, True),
    "django, our wsgi": lambda heard: django(False, heard, False, True),
    "flask": lambda heard: flask(False, heard),
    "flask, async view": lambda heard: flask(True, heard),
    "any asgi": lambda heard: any_asgi(True, heard),
    "any wsgi": lambda heard: any_wsgi(False, heard),
}
