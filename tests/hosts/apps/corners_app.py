"""What the conformance applications have none of: files that vanish, sockets, broken lifespans."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from fastapi import FastAPI, WebSocket
from fastapi.responses import FileResponse

from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.hosts.events import report


def make_app() -> FastAPI:
    app = FastAPI()

    @app.get("/file")
    def file(run: str, size: int, tasks: BackgroundTasks) -> FileResponse:
        with tempfile.NamedTemporaryFile(delete=False) as made:
            made.write(b"x" * size)
        tasks.add_task(remove, made.name, run)
        return FileResponse(made.name)

    return app


def remove(name: str, run: str) -> None:
    Path(name).unlink()
    report(run, "removed")


plain = make_app()
configured = make_app()
init_app(configured)


@configured.get("/file-below")
def file_below(run: str, size: int) -> FileResponse:
    with tempfile.NamedTemporaryFile(delete=False) as made:
        made.write(b"x" * size)
    add_task(remove, made.name, run)
    return FileResponse(made.name)


@configured.websocket("/socket/{run}")
async def socket(run: str, socket: WebSocket) -> None:
    await socket.accept()
    while True:
        add_task(report, run, await socket.receive_text())


class Tenant:
    """A middleware with a mistake: the scope of a lifespan has no path."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope["tenant"] = scope["path"].split("/")[1]
        await self.app(scope, receive, send)


broken = BackgroundTasksMiddleware(Tenant(plain))
