"""The extra ``sqlalchemy`` alone: a task is kept in a database until it has run."""

import shutil
import tempfile
from pathlib import Path

import bgadapters
from bgadapters.adapters import Runtime, Settings
from bgadapters.stores.sqlalchemy import SQLAlchemyStore

with tempfile.TemporaryDirectory() as directory:
    here = Path(directory)
    (here / "mail").write_text("to be sent")
    url = f"sqlite+pysqlite:///{directory}/tasks.db"
    runtime = Runtime(Settings(store=url, task_modules=["shutil"]))
    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        durably = tasks.options(durable=True)
        durably.add_task(shutil.copyfile, f"{directory}/mail", f"{directory}/sent")
    assert runtime.drain(10) == []
    assert (here / "sent").read_text() == "to be sent"
    store = SQLAlchemyStore(url)
    assert store.count() == {"waiting": 0, "failed": 0}
