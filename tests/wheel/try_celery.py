"""The extra ``celery`` alone: a task is sent through files, and a worker of Celery runs it."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHOP = """
from pathlib import Path

from celery import Celery

import bgadapters
from bgadapters.adapters import Runtime, Settings
from bgadapters.engines.celery import CeleryEngine

here = Path(__file__).parent
places = {name: str(here / name) for name in ("messages", "control")}
celery_app = Celery("shop", broker="filesystem://")
celery_app.conf.broker_connection_retry_on_startup = True
celery_app.conf.broker_transport_options = {
    "data_folder_in": places["messages"],
    "data_folder_out": places["messages"],
    "control_folder": places["control"],
}
runtime = Runtime(Settings(engines={"heavy": CeleryEngine(celery_app)}, drain_timeout=10))


@bgadapters.task_options()
def copy(source, target):
    Path(target).write_text(Path(source).read_text())
"""

with tempfile.TemporaryDirectory() as directory:
    here = Path(directory)
    for name in ("messages", "control"):
        (here / name).mkdir()
    (here / "mail").write_text("to be sent")
    (here / "shop.py").write_text(SHOP)
    sys.path.insert(0, directory)
    import shop  # type: ignore[import-not-found]

    import bgadapters

    with bgadapters.BackgroundTasks(runtime=shop.runtime) as tasks:
        tasks.options(engine="heavy").add_task(shop.copy, f"{directory}/mail", f"{directory}/sent")
    assert shop.runtime.drain(10) == []
    assert len(list((here / "messages").iterdir())) == 1
    command = (sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "solo")
    with subprocess.Popen([*command, "--without-mingle"], cwd=directory) as worker:
        deadline = time.monotonic() + 30
        while not (here / "sent").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        worker.terminate()
    assert (here / "sent").read_text() == "to be sent"
