"""The extra ``opentelemetry`` alone: its program finds the instrumentor, and tasks run."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

ASKED = "BGADAPTERS_IS_ASKED"

if ASKED in os.environ:
    import bgadapters
    from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor

    ran: list[str] = []
    assert BackgroundTasksInstrumentor().is_instrumented_by_opentelemetry
    with bgadapters.BackgroundTasks() as tasks:
        tasks.add_task(ran.append, "it")
    assert bgadapters.drain(10) == []
    assert ran == ["it"], ran
else:
    (point,) = entry_points(group="opentelemetry_instrumentor", name="bgadapters")
    point.load()
    program = Path(sys.executable).with_name("opentelemetry-instrument")
    code = sys.orig_argv[sys.orig_argv.index("-c") + 1]
    subprocess.run(
        [program, sys.executable, "-c", code], check=True, env={**os.environ, ASKED: "yes"}
    )
