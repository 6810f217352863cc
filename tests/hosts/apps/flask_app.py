"""The conformance application in Flask."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, abort, g, redirect, request, send_file

from bgadapters import QueueFullError
from bgadapters.flask import BackgroundTasks
from tests.hosts import work
from tests.hosts.events import report
from tests.hosts.probe import WSGIProbe

app = Flask(__name__)
app.config.update({f"BACKGROUND_TASKS_{k}": v for k, v in work.settings_from_environment().items()})
background_tasks = BackgroundTasks(app)
FILE = work.make_file()


@app.teardown_appcontext
def teardown(_: object) -> None:
    if "of_task" in g:
        report(g.of_task, "teardown")


@app.errorhandler(QueueFullError)
def full(_: QueueFullError) -> tuple[str, int]:
    return "full", 503


@app.route("/<kind>", methods=["GET", "POST"])
def view(kind: str) -> Any:
    run = work.add_plan(background_tasks, request.args)
    return RESPONSES[kind](run)


@app.route("/async/<kind>")
async def async_view(kind: str) -> Any:
    run = work.add_plan(background_tasks, request.args)
    if kind == "wait":
        await work.await_in_view(run)
        kind = "length"
    return RESPONSES[kind](run)


def fails(_: str) -> Any:
    raise work.ViewError("the view failed")


def forbids(_: str) -> Any:
    abort(403)


def stream(run: str) -> Iterator[bytes]:
    return work.chunks(run)


def context_task(run: str) -> None:
    report(run, "context", "of_task" in g)
    g.of_task = run


def context(run: str) -> str:
    g.of_task = ""
    background_tasks.add_task(context_task, run)
    background_tasks.add_task(context_task, run)
    del g.of_task
    return "context"


RESPONSES = {
    "length": lambda run: work.BODY,
    "stream": stream,
    "stream-fails": lambda run: Response(work.chunks(run, raises=True)),
    "no-content": lambda run: ("", 204),
    "not-modified": lambda run: ("", 304),
    "redirect": lambda run: redirect("/length"),
    "empty": lambda run: "",
    "file": lambda run: send_file(FILE),
    "large": lambda run: work.LARGE,
    "huge": lambda run: work.LARGE * 5,
    "large-stream": lambda run: work.large_chunks(),
    "error": lambda run: ("error", 500),
    "wait": lambda run: work.wait_in_view(run),
    "threads": lambda run: work.threads(),
    "fails": fails,
    "forbids": forbids,
    "context": context,
}

application = WSGIProbe(app)
