"""The extra ``huey`` alone: a task becomes one of Huey, and runs where that arrives."""

import shutil
import tempfile
from pathlib import Path

from huey import SqliteHuey
from huey.serializer import SignedSerializer

import bgadapters
from bgadapters.adapters import Runtime, Settings
from bgadapters.engines.huey import HueyEngine

with tempfile.TemporaryDirectory() as directory:
    here = Path(directory)
    (here / "mail").write_text("to be sent")
    serializer = SignedSerializer(secret="of this test")
    huey = SqliteHuey("shop", filename=str(here / "huey.db"), serializer=serializer)
    engines = {"jobs": HueyEngine(huey)}
    runtime = Runtime(Settings(engines=engines, task_modules=["shutil"]))
    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        there = tasks.options(engine="jobs")
        there.add_task(shutil.copyfile, f"{directory}/mail", f"{directory}/sent")
    assert runtime.drain(10) == []
    assert not (here / "sent").exists()
    huey.execute(huey.dequeue())  # as a consumer does
    assert (here / "sent").read_text() == "to be sent"
    huey.storage.close()
