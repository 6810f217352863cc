from contextlib import contextmanager, nullcontext

from bgadapters import TaskInfo, TaskMiddleware
from flask import current_app, has_request_context, request, session
from flask_login import current_user

# By these Flask-Login knows its own session again, see SESSION_PROTECTION.
CLIENT = ("REMOTE_ADDR", "HTTP_USER_AGENT", "HTTP_X_FORWARDED_FOR")


class CurrentUser(TaskMiddleware):
    """Flask-Login: current_user is that of the request, and is loaded when it is first used."""

    def capture(self, task: TaskInfo):
        if not has_request_context() or not current_user.is_authenticated:
            return None
        return {
            "base_url": request.url_root,
            "client": {key: request.environ[key] for key in CLIENT if key in request.environ},
            "session": {
                "_user_id": current_user.get_id(),
                "_fresh": session.get("_fresh", False),
                "_id": session.get("_id"),
            },
        }

    def around(self, task: TaskInfo, captured):
        return nullcontext() if captured is None else logged_in(captured)


@contextmanager
def logged_in(captured):
    """A request that nobody has made: Flask-Login knows the user of a request alone."""
    with current_app.test_request_context(
        base_url=captured["base_url"], environ_base=captured["client"]
    ):
        session.update(captured["session"])
        yield
