import logging
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

from bgadapters import TaskInfo, TaskMiddleware

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class RequestIdMiddleware:
    """ASGI: each request has the id that its proxy has sent, or a new one."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] in {"http", "websocket"}:
            sent = dict(scope["headers"]).get(b"x-request-id", b"").decode("latin-1")
            request_id.set(sent or uuid4().hex)
        await self.app(scope, receive, send)


class RequestIdWSGIMiddleware:
    """WSGI: the same."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        request_id.set(environ.get("HTTP_X_REQUEST_ID") or uuid4().hex)
        return self.app(environ, start_response)


class RequestIdFilter(logging.Filter):
    """For a handler: each record has the id, as ``%(request_id)s``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class RequestId(TaskMiddleware):
    """The records of tasks carry the id of the request, in other processes too."""

    def capture(self, task: TaskInfo) -> str | None:
        return request_id.get()

    @contextmanager
    def around(self, task: TaskInfo, captured: str | None):
        request_id.set(captured)
        yield
