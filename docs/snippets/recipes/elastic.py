from contextlib import contextmanager

import elasticapm
from bgadapters import TaskInfo, TaskMiddleware


class ElasticTransaction(TaskMiddleware):
    """Elastic APM: each task is a transaction, in the trace of its request."""

    def capture(self, task: TaskInfo) -> str | None:
        return elasticapm.get_trace_parent_header() or None

    @contextmanager
    def around(self, task: TaskInfo, captured: str | None):
        client = elasticapm.get_client()
        parent = elasticapm.trace_parent_from_string(captured) if captured else None
        client.begin_transaction("task", trace_parent=parent)
        try:
            yield
        except BaseException:
            client.capture_exception(handled=False)
            elasticapm.set_transaction_outcome("failure")
            client.end_transaction(task.name, "failure")
            raise
        client.end_transaction(task.name, "success")
