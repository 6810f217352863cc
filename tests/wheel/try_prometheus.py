"""The extra ``prometheus`` alone: tasks are counted."""

from prometheus_client import REGISTRY

import bgadapters
from bgadapters.telemetry import prometheus

prometheus.instrument()
with bgadapters.BackgroundTasks() as tasks:
    tasks.add_task(divmod, 1, 1)
assert bgadapters.drain(10) == []
labels = {"task": "builtins.divmod", "outcome": "succeeded"}
assert REGISTRY.get_sample_value("bgadapters_tasks_total", labels) == 1
