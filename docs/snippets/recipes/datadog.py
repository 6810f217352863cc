from contextlib import contextmanager

from bgadapters import TaskInfo, TaskMiddleware
from ddtrace.propagation.http import HTTPPropagator
from ddtrace.trace import tracer


class DatadogSpan(TaskMiddleware):
    """Datadog: a span for each task, in the trace of its request."""

    def capture(self, task: TaskInfo) -> dict[str, str]:
        headers: dict[str, str] = {}
        context = tracer.current_trace_context()
        if context is not None:
            HTTPPropagator.inject(context, headers)
        return headers

    @contextmanager
    def around(self, task: TaskInfo, captured: dict[str, str]):
        parent = HTTPPropagator.extract(captured)
        with tracer.start_span(
            "bgadapters.task", resource=task.name, child_of=parent, activate=True
        ):
            yield
