from contextlib import nullcontext

from auditlog.context import auditlog_value, set_actor
from bgadapters import TaskInfo, TaskMiddleware

from recipes.users import user_of


class AuditlogActor(TaskMiddleware):
    """django-auditlog: what tasks change is logged for the user of the request."""

    def capture(self, task: TaskInfo):
        noted = auditlog_value.get({})
        actor = getattr(noted.get("actor"), "pk", None)
        return None if actor is None else [actor, noted.get("remote_addr")]

    def around(self, task: TaskInfo, captured):
        if captured is None:
            return nullcontext()
        actor, remote_addr = captured
        return set_actor(user_of(actor), remote_addr=remote_addr)
