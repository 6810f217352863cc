"""The conformance application in plain Starlette: the middleware and ``add_task()``."""

from __future__ import annotations

from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from bgadapters import QueueFullError
from bgadapters.adapters import current_queue
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.hosts import work
from tests.hosts.probe import ASGIProbe

FILE = work.make_file()


async def async_view(request: Request) -> Response:
    run = work.add_plan(current_queue(), request.query_params)
    kind = request.path_params["kind"]
    if kind == "wait":
        await work.await_in_view(run)
        kind = "length"
    if kind == "large-stream":
        return StreamingResponse(work.large_achunks())
    if kind == "stream":
        return StreamingResponse(work.achunks(run))
    if kind == "stream-fails":
        return StreamingResponse(work.achunks(run, raises=True))
    response: Response = RESPONSES[kind](run)
    return response


def view(request: Request) -> Response:
    run = work.add_plan(current_queue(), request.query_params)
    response: Response = RESPONSES[request.path_params["kind"]](run)
    return response


def full(_: Request, __: Exception) -> Response:
    return Response("full", 503)


def fails(_: str) -> Any:
    raise work.ViewError("the view failed")


def forbids(_: str) -> Any:
    raise HTTPException(403)


RESPONSES: dict[str, Any] = {
    "length": lambda run: Response(work.BODY),
    "stream": lambda run: StreamingResponse(work.chunks(run)),
    "stream-fails": lambda run: StreamingResponse(work.chunks(run, raises=True)),
    "no-content": lambda run: Response(status_code=204),
    "not-modified": lambda run: Response(status_code=304),
    "redirect": lambda run: RedirectResponse("/length", 302),
    "empty": lambda run: Response(),
    "file": lambda run: FileResponse(FILE),
    "large": lambda run: Response(work.LARGE),
    "large-stream": lambda run: StreamingResponse(work.large_chunks()),
    "error": lambda run: Response("error", 500),
    "wait": lambda run: Response(work.wait_in_view(run)),
    "threads": lambda run: Response(work.threads()),
    "fails": fails,
    "forbids": forbids,
}

_GIVEN: Any = {name.lower(): value for name, value in work.settings_from_environment().items()}

application = ASGIProbe(
    Starlette(
        routes=[Route("/async/{kind}", async_view), Route("/{kind}", view)],
        middleware=[Middleware(BackgroundTasksMiddleware, **_GIVEN)],
        exception_handlers={QueueFullError: full},
    )
)
