"""Ways to run tasks of a WSGI response, this library's and others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import flask
from flask_executor import Executor  # pyright: ignore[reportMissingImports]

from benchmarks.apps import django_settings
from benchmarks.work import noop
from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime
from bgadapters.django.runtime import get_runtime
from bgadapters.flask import BackgroundTasks as FlaskTasks

CORE = "bgadapters, the queue alone"
OURS = {"core": CORE, "flask": "bgadapters.flask", "django": "bgadapters.django"}
SUBMIT = "ThreadPoolExecutor.submit"

Respond = Callable[[int], object]
"""What makes one response with so many tasks and does not wait for them."""


def queue_of(runtime: Runtime) -> Respond:
    """A queue of this library, released at the end of the response."""

    def respond(tasks: int) -> None:
        queue = BackgroundTasks(runtime=runtime)
        for _ in range(tasks):
            queue.add_task(noop)
        queue.release()

    return respond


def submit_to(pool: ThreadPoolExecutor | Executor) -> Respond:
    """One ``submit`` for each task."""

    def respond(tasks: int) -> None:
        for _ in range(tasks):
            pool.submit(noop)

    return respond


def in_close(tasks: int) -> None:
    """The tasks are made by ``close``, which the client of many a server waits for."""
    response = flask.Response()
    for _ in range(tasks):
        response.call_on_close(noop)
    response.close()


@contextmanager
def wsgi() -> Iterator[dict[str, Respond]]:
    """Every way, by name, each ready to be called."""
    app = flask.Flask(__name__)
    FlaskTasks(app)
    django_settings.set_up()
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(8))
        flask_executor = Executor(app)
        stack.callback(flask_executor.shutdown)
        stack.enter_context(app.test_request_context())
        ways = {
            CORE: queue_of(Runtime()),
            OURS["flask"]: queue_of(app.extensions["bgadapters"]),
            OURS["django"]: queue_of(get_runtime()),
            SUBMIT: submit_to(pool),
            "Flask-Executor": submit_to(flask_executor),
            "inline, in call_on_close": in_close,
        }
        task = django_settings.local_task(noop)
        if task is not None:
            ways["django-tasks-local"] = lambda tasks: [task.enqueue() for _ in range(tasks)]
        yield ways


def missing() -> list[str]:
    """What could not be compared, and why."""
    if django_settings.HAS_TASKS:
        return []
    return ["django-tasks-local needs Django 6, hence Python 3.12: it was not compared."]
