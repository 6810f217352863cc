"""The extra ``procrastinate`` alone: a task becomes a job, and runs where that arrives.

Procrastinate itself needs libpq, or ``psycopg[binary]``. Its jobs are in memory here.
"""

import asyncio
import logging
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import bgadapters
from bgadapters.adapters import Runtime, Settings

try:
    import psycopg
except ImportError as exc:
    print(f"procrastinate {version('procrastinate')} cannot be imported here: {exc}")
    raise SystemExit from exc

import procrastinate
from procrastinate.testing import InMemoryConnector

from bgadapters.engines.procrastinate import ProcrastinateEngine

logging.disable()  # it warns of an app that is no module's
with tempfile.TemporaryDirectory() as directory:
    here = Path(directory)
    (here / "mail").write_text("to be sent")
    app = procrastinate.App(connector=InMemoryConnector())
    engine = ProcrastinateEngine(app)
    runtime = Runtime(Settings(engines={"jobs": engine}, task_modules=["shutil"]))
    engine.bind(runtime)
    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        there = tasks.options(engine="jobs")
        there.add_task(shutil.copyfile, f"{directory}/mail", f"{directory}/sent")
    assert runtime.drain(10) == []
    assert not (here / "sent").exists()
    asyncio.run(app.run_worker_async(wait=False, install_signal_handlers=False))
    assert (here / "sent").read_text() == "to be sent"
    assert psycopg.__version__
