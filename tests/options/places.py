"""Where a view runs: each framework, called as a WSGI or an ASGI server calls it, in process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, Unpack

from fastapi import FastAPI

from bgadapters.adapters import Runtime, SettingNames, WithOptions
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.gateways import asgi_calls, wsgi_calls

PATIENCE = 5.0


class Adder(Protocol):
    """What a view has: a queue, or the extension of Flask."""

    def add_task(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None: ...

    def options(self, *base: Any, **options: Any) -> WithOptions: ...

    def forget(self, key: str) -> bool: ...


View = Callable[[Adder], object]


class Place:
    """An application that serves one view.

    Attributes:
        runtime: that of the application.
        view: what the next request is served by.
    """

    runtime: Runtime

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self.view: View = lambda _: None

    def request(self, view: View) -> None:
        """Make a request; return when its response is complete. Raises what the view has raised."""
        failed: list[BaseException] = []

        def guarded(adder: Adder) -> None:
            try:
                view(adder)
            except BaseException as exc:
                failed.append(exc)
                raise

        self.view = guarded
        try:
            self._call()
        except BaseException as exc:
            if not failed:
                failed.append(exc)
        if failed:
            raise failed[0]


class Loop:
    """An event loop in a thread of its own, as an ASGI server has one."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def call(self, app: Any) -> None:
        """Make a request; return with its response, or if there is none: its tasks may run on."""
        done = threading.Event()
        raised: list[BaseException] = []

        def on_send(message: Any) -> None:
            if asgi_calls.is_last(message):
                self.loop.call_soon(done.set)

        async def serve() -> None:
            try:
                await asgi_calls.Client(on_send).request(app)
            except BaseException as exc:
                raised.append(exc)
            done.set()

        asyncio.run_coroutine_threadsafe(serve(), self.loop)
        assert done.wait(PATIENCE)
        if raised:
            raise raised[0]

    def stop(self) -> None:
        """End the loop, when the calls have returned."""

        async def returned() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            if others:
                await asyncio.wait(others, timeout=PATIENCE)

        asyncio.run_coroutine_threadsafe(returned(), self.loop).result(PATIENCE)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def asgi_loop() -> Iterator[Loop]:
    loop = Loop()
    try:
        yield loop
    finally:
        loop.stop()


def _wsgi(app: Any) -> None:
    wsgi_calls.serve(app)


@contextmanager
def fastapi_asgi(**settings: Unpack[SettingNames]) -> Iterator[Place]:
    app = FastAPI()
    init_app(app, **settings)

    @app.get("/")
    async def root(background_tasks: BackgroundTasks) -> str:
        place.view(background_tasks)
        return "body"

    with asgi_loop() as loop:
        place = Place(lambda: loop.call(app))
        added: Any = app.user_middleware[0]
        place.runtime = added.kwargs["runtime"]
        yield place


@contextmanager
def _flask(call: Callable[[Any], None], settings: SettingNames) -> Iterator[Place]:
    from flask import Flask

    from bgadapters.flask import BackgroundTasks

    app = Flask("app")
    background_tasks = BackgroundTasks(app, **settings)

    @app.get("/")
    def root() -> str:
        place.view(background_tasks)
        return "body"

    place = Place(lambda: call(app))
    place.runtime = app.extensions["bgadapters"]
    yield place


@contextmanager
def flask_wsgi(**settings: Unpack[SettingNames]) -> Iterator[Place]:
    with _flask(_wsgi, settings) as place:
        yield place


@contextmanager
def flask_asgi(**settings: Unpack[SettingNames]) -> Iterator[Place]:
    """Behind an adapter, as on an ASGI server."""
    from asgiref.wsgi import WsgiToAsgi

    adapter: Any = WsgiToAsgi
    with asgi_loop() as loop, _flask(lambda app: loop.call(adapter(app)), settings) as place:
        yield place


@contextmanager
def _django(call: Callable[[Any], None], handler: str, settings: SettingNames) -> Iterator[Place]:
    from django.core.handlers.asgi import ASGIHandler
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpResponse
    from django.test import override_settings

    from bgadapters.django import background_tasks
    from bgadapters.django.runtime import get_runtime
    from tests.django.serving import URLConf

    @background_tasks
    def root(request: Any) -> HttpResponse:
        place.view(request.background_tasks)
        return HttpResponse("body")

    upper = {name.upper(): value for name, value in settings.items()}
    with override_settings(
        ROOT_URLCONF=URLConf({"": root}),
        BACKGROUND_TASKS=upper,
    ):
        app = ASGIHandler() if handler == "asgi" else WSGIHandler()
        place = Place(lambda: call(app))
        place.runtime = get_runtime()
        yield place


@contextmanager
def django_wsgi(**settings: Unpack[SettingNames]) -> Iterator[Place]:
    with _django(_wsgi, "wsgi", settings) as place:
        yield place


@contextmanager
def django_asgi(**settings: Unpack[SettingNames]) -> Iterator[Place]:
    with asgi_loop() as loop, _django(loop.call, "asgi", settings) as place:
        yield place


Make = Callable[..., AbstractContextManager[Place]]
PLACES: list[Make] = [fastapi_asgi, flask_wsgi, flask_asgi, django_wsgi, django_asgi]
