from contextlib import contextmanager

from bgadapters import TaskInfo, TaskMiddleware
from django_guid import get_guid, set_guid


class RequestId(TaskMiddleware):
    """django-guid: the records of tasks carry the id of the request, in other processes too."""

    def capture(self, task: TaskInfo) -> str | None:
        return get_guid()

    @contextmanager
    def around(self, task: TaskInfo, captured: str | None):
        if captured is not None and get_guid() != captured:
            set_guid(captured)
        yield
