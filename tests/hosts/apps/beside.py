"""A view that adds a task that computes, and another view, under ASGI and under WSGI.

With UNWATCHED in the environment nobody looks for tasks that hold the interpreter's lock.
"""

from __future__ import annotations

import itertools
import os
import time

from fastapi import FastAPI
from flask import Flask

from benchmarks.apps.unwatched import unwatch
from bgadapters.adapters import default_runtime
from bgadapters.core.app.runtime import runtimes
from bgadapters.fastapi import BackgroundTasks
from bgadapters.flask import BackgroundTasks as Extension

asgi = FastAPI()
wsgi = Flask(__name__)
extension = Extension(wsgi)
_numbers = itertools.count(1)
_finished = [0]


def compute() -> None:
    """Hold the interpreter's lock for 50 ms."""
    end = time.thread_time() + 0.05
    while time.thread_time() < end:
        pass
    _finished[0] = next(_numbers)


@asgi.get("/bgadapters/compute")
async def add(background_tasks: BackgroundTasks) -> str:
    background_tasks.add_task(compute)
    return "added"


@asgi.get("/none")
async def none() -> str:
    return "nothing"


@asgi.get("/finished")
async def finished() -> int:
    return _finished[0]


@wsgi.get("/bgadapters/compute")
def add_in_flask() -> str:
    extension.add_task(compute)
    return "added"


@wsgi.get("/none")
def none_in_flask() -> str:
    return "nothing"


@wsgi.get("/finished")
def finished_in_flask() -> str:
    return str(_finished[0])


if "UNWATCHED" in os.environ:
    default_runtime()
    for runtime in runtimes():
        unwatch(runtime)
