from contextlib import contextmanager
from contextvars import ContextVar

from bgadapters import TaskInfo, TaskMiddleware

current_tenant: ContextVar[str | None] = ContextVar("current_tenant", default=None)


class Tenant(TaskMiddleware):
    """Tasks run for the tenant of the request that has added them, in any process."""

    def capture(self, task: TaskInfo) -> str | None:
        return current_tenant.get()

    @contextmanager
    def around(self, task: TaskInfo, captured: str | None):
        token = current_tenant.set(captured)
        try:
            yield
        finally:
            current_tenant.reset(token)
