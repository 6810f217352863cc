from contextlib import contextmanager

from bgadapters import TaskInfo, TaskMiddleware
from newrelic import agent


class NewRelicTask(TaskMiddleware):
    """New Relic: each task is a transaction outside of the web, in the trace of its request."""

    def capture(self, task: TaskInfo) -> dict[str, str]:
        headers: list[tuple[str, str]] = []
        agent.insert_distributed_trace_headers(headers)
        return dict(headers)

    @contextmanager
    def around(self, task: TaskInfo, captured: dict[str, str]):
        with agent.BackgroundTask(agent.application(), task.name, group="bgadapters"):
            agent.accept_distributed_trace_headers(captured, transport_type="Other")
            yield
