"""The conformance application in FastAPI, with the dependency alone and with init_app."""

from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, RedirectResponse, Response, StreamingResponse

from bgadapters import QueueFullError
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.hosts import work
from tests.hosts.events import report
from tests.hosts.probe import ASGIProbe

FILE = work.make_file()


def session(request: Request) -> Any:
    yield
    report(request.query_params["run"], "commit")


def make_app() -> FastAPI:
    app = FastAPI()

    @app.api_route("/async/{kind}", methods=["GET", "HEAD"], dependencies=[Depends(session)])
    async def async_view(kind: str, request: Request, background_tasks: BackgroundTasks) -> Any:
        run = work.add_plan(background_tasks, request.query_params)
        if kind == "wait":
            await work.await_in_view(run)
            kind = "length"
        if kind == "large-stream":
            return StreamingResponse(work.large_achunks())
        if kind == "stream":
            return StreamingResponse(work.achunks(run))
        if kind == "stream-fails":
            return StreamingResponse(work.achunks(run, raises=True))
        return RESPONSES[kind](run)

    @app.api_route("/{kind}", methods=["GET", "HEAD"])
    def view(
        kind: str, request: Request, background_tasks: BackgroundTasks, _: None = Depends(session)
    ) -> Any:
        run = work.add_plan(background_tasks, request.query_params)
        return RESPONSES[kind](run)

    @app.exception_handler(QueueFullError)
    def full(_: Request, __: Exception) -> Response:
        return Response("full", 503)

    return app


def fails(_: str) -> Any:
    raise work.ViewError("the view failed")


def forbids(_: str) -> Any:
    raise HTTPException(403)


RESPONSES = {
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

configured = make_app()
_GIVEN: Any = {name.lower(): value for name, value in work.settings_from_environment().items()}
init_app(configured, **_GIVEN)

application = ASGIProbe(make_app())
configured_application = ASGIProbe(configured)
