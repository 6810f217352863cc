"""Durable tasks in Flask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

from flask import Flask, Response, request, stream_with_context

from bgadapters import add_task
from bgadapters.flask import BackgroundTasks
from tests.durable import work


class ByWrite:
    """Answers a path in the old way, by ``write``; all else by another application."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] != "/write":
            return self._app(environ, start_response)
        said = work.add(add_task, dict(parse_qsl(environ["QUERY_STRING"])))
        start_response("200 OK", [("Content-Type", "text/x-write"), ("Of", "the view")])(
            said.encode()
        )
        return []


application = Flask(__name__)
application.wsgi_app = ByWrite(application.wsgi_app)  # type: ignore[method-assign]
application.config.update({f"BACKGROUND_TASKS_{k.upper()}": v for k, v in work.settings().items()})
background_tasks = BackgroundTasks(application)


@application.get("/task")
def add() -> str:
    """Add a task."""
    return work.add(background_tasks.add_task, request.args)


@application.get("/stream")
def stream() -> Response:
    """Add a task before the first part of a stream."""

    def parts() -> Iterator[str]:
        yield work.add(background_tasks.add_task, request.args)

    body = stream_with_context(parts())
    return Response(body, content_type="text/x-stream", headers={"Of": "the view"})
