"""An application whose module runs tasks when it is imported, before its server forks."""

from __future__ import annotations

import os

from bgadapters import BackgroundTasks, drain
from bgadapters.adapters import BackgroundTasks as Queue
from bgadapters.adapters import Runtime, default_runtime
from tests.hosts import journal
from tests.hosts.apps.load_fastapi import application as fastapi_application
from tests.hosts.apps.load_flask import application as flask_application
from tests.hosts.events import until_one_waits

_FLASK: Runtime = flask_application.extensions["bgadapters"]

for kind, runtime in (("default", default_runtime()), ("flask", _FLASK)):
    with Queue(runtime=runtime) as tasks:
        # With a report, so that nothing is left to import when the server forks: a child would
        # wait for ever for a module that a thread of its parent was about to import.
        tasks.add_task(journal.task, f"before, {kind}", 0.0, f"before, {os.getpid()} {kind}")
        tasks.add_task(journal.async_task, f"before, {kind}, async")
drain()

with BackgroundTasks() as tasks:  # runs and waits while the server forks
    tasks.add_task(journal.task, "held", 0.0, os.environ[journal.RUN])
    tasks.add_task(journal.async_task, "waiting, async")
    tasks.add_task(journal.task, "waiting")
# uWSGI forks in C without asking for the interpreter's lock: a child would wait for ever for that
# of a thread that it does not have.
until_one_waits()

__all__ = ["fastapi_application", "flask_application"]
