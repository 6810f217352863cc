from contextlib import contextmanager

from bgadapters import TaskInfo, TaskMiddleware
from django.http import HttpRequest
from simple_history.models import HistoricalRecords

from recipes.users import user_of


class HistoryUser(TaskMiddleware):
    """django-simple-history: what tasks change was changed by the user of the request."""

    def capture(self, task: TaskInfo):
        request = getattr(HistoricalRecords.context, "request", None)
        return getattr(getattr(request, "user", None), "pk", None)

    @contextmanager
    def around(self, task: TaskInfo, captured):
        if captured is None:
            yield
            return
        HistoricalRecords.context.request = HttpRequest()
        HistoricalRecords.context.request.user = user_of(captured)
        try:
            yield
        finally:
            del HistoricalRecords.context.request
