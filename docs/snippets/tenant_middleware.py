import threading
from contextlib import contextmanager

from bgadapters import TaskInfo, TaskMiddleware

current = threading.local()  # what a library of yours keeps in the thread


class TenantMiddleware(TaskMiddleware):
    """Tasks run for the tenant of the request that has added them."""

    def capture(self, task: TaskInfo) -> str | None:
        return getattr(current, "tenant", None)

    @contextmanager
    def around(self, task: TaskInfo, captured: str | None):
        before = getattr(current, "tenant", None)
        current.tenant = captured
        try:
            yield
        finally:
            current.tenant = before
