from contextlib import nullcontext

from bgadapters import TaskInfo, TaskMiddleware
from flask_babel import force_locale, get_locale


class Locale(TaskMiddleware):
    """Flask-Babel: tasks speak the language of the request."""

    def capture(self, task: TaskInfo) -> str | None:
        locale = get_locale()
        return None if locale is None else str(locale)

    def around(self, task: TaskInfo, captured: str | None):
        return nullcontext() if captured is None else force_locale(captured)
