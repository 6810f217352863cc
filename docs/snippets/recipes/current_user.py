from bgadapters import TaskInfo, TaskMiddleware
from crum import get_current_user, impersonate

from recipes.orm_thread import in_orm_thread
from recipes.users import user_of


class CurrentUser(TaskMiddleware):
    """django-crum: the current user of tasks is that of the request."""

    def capture(self, task: TaskInfo):
        return getattr(get_current_user(), "pk", None)

    def around(self, task: TaskInfo, captured):
        entered = impersonate(user_of(captured))
        return in_orm_thread(entered) if task.is_async else entered
