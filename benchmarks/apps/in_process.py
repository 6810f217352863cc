"""Applications called without a server, with the shim and without, no task being added.

``python -m benchmarks.apps.in_process FRAMEWORK REQUESTS``, run below callgrind, leaves one dump
for the application without and one for that with the shim.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

Request = Callable[[], object]

_TIMES = 200


@contextmanager
def requesters(framework: str) -> Iterator[dict[str, Request]]:
    """What makes one request, ``"without"`` and ``"with"`` the shim."""
    if framework == "fastapi":
        with asyncio.Runner() as runner:
            requests = {name: asgi_request(app) for name, app in fastapi_apps().items()}
            yield {name: partial(_run, runner, request) for name, request in requests.items()}
    else:
        apps = _flask() if framework == "flask" else _django()
        yield {name: wsgi_request(app) for name, app in apps.items()}


def seconds_a_request(request: Request) -> float:
    """The time of a request."""
    started = time.perf_counter()
    for _ in range(_TIMES):
        request()
    return (time.perf_counter() - started) / _TIMES


def fastapi_apps() -> dict[str, Any]:
    """Applications of FastAPI, ``"without"`` and ``"with"`` the shim."""
    from fastapi import FastAPI

    from bgadapters.fastapi import init_app

    apps = {"without": FastAPI(), "with": FastAPI()}
    for app in apps.values():

        @app.get("/")
        async def view() -> dict[str, str]:
            return {"message": "sent"}

    init_app(apps["with"])
    return apps


def _flask() -> dict[str, Any]:
    from flask import Flask, Response, jsonify

    from bgadapters.flask import BackgroundTasks

    apps = {"without": Flask("without"), "with": Flask("with")}
    for app in apps.values():

        @app.get("/")
        def view() -> Response:
            return jsonify(message="sent")

    BackgroundTasks(apps["with"])
    return apps


def _django() -> dict[str, Any]:
    from benchmarks.apps import django_settings

    django_settings.set_up(urlconf=__name__)
    from django.core.handlers.wsgi import WSGIHandler
    from django.http import HttpRequest, JsonResponse
    from django.urls import path

    from bgadapters.django import background_tasks

    def view(_: HttpRequest) -> JsonResponse:
        return JsonResponse({"message": "sent"})

    handler = WSGIHandler()

    def serving(served: Callable[..., Any]) -> Any:
        pattern = path("", served)

        def app(environ: dict[str, Any], start_response: Any) -> Any:
            urlpatterns[:] = [pattern]  # alone: to pass over that of the other view takes time
            return handler(environ, start_response)

        return app

    return {"without": serving(view), "with": serving(background_tasks(view))}


urlpatterns: list[Any] = []


def wsgi_request(app: Any, path: str = "/") -> Request:
    """What makes one request."""

    def start_response(status: str, _: Any, __: Any = None) -> Any:
        assert status == "200 OK", status

    def request() -> None:
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": path,
            "SCRIPT_NAME": "",
            "QUERY_STRING": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "localhost",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        body = app(environ, start_response)
        b"".join(body)
        if hasattr(body, "close"):
            body.close()

    return request


def asgi_request(app: Any, path: str = "/") -> Callable[[], Coroutine[Any, Any, None]]:
    """What makes one request, awaited."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        assert message.get("status", 200) == 200, message

    async def request() -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "extensions": {},
        }
        await app(scope, receive, send)

    return request


def _run(runner: asyncio.Runner, request: Callable[[], Coroutine[Any, Any, None]]) -> None:
    runner.run(request())


def _callgrind(*options: str) -> None:
    subprocess.run(
        ["callgrind_control", *options, str(os.getpid())], check=True, stdout=subprocess.DEVNULL
    )


def _main(framework: str, requests: int) -> None:
    with requesters(framework) as ways:
        for request in ways.values():
            for _ in range(3):
                request()
        for request in ways.values():
            _callgrind("--instr=on")
            _callgrind("--zero")
            for _ in range(requests):
                request()
            _callgrind("--dump")
            _callgrind("--instr=off")


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
