"""The queue of a request, which its environ holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, Unpack

from bgadapters.adapters import (
    LazyBatch,
    OptionNames,
    Runtime,
    TaskOptions,
    WithOptions,
    answer_check,
    found,
    start_serving,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

P = ParamSpec("P")

QUEUE_KEY = "bgadapters.queue"
"""Where the WSGI environ holds the request's queue."""

CHECK_HEADER = "HTTP_BGADAPTERS_CHECK"


class RequestQueue(LazyBatch):
    """The queue of one request, which knows whose it is: an environ is copied for others.

    Attributes:
        opener: the middleware that has opened it. What it is called with further in is another
            request, made by a view. None once a framework serves the request: then whatever is
            called with its environ is.
        environ: the identity of the environ that it was opened for.
        status: the status line of the response; None as long as it has none.
    """

    __slots__ = ("environ", "opener", "status")

    def __init__(self, runtime: Runtime, environ: WSGIEnvironment, opener: object) -> None:
        self.runtime = runtime
        self.is_used = False
        self.made = {}
        self.noted = None
        self.request_path = environ.get("PATH_INFO")
        self.request_method = environ.get("REQUEST_METHOD")
        self.opener = opener
        self.environ = id(environ)
        self.status: str | None = None

    def note_status(
        self,
        start_response: StartResponse,
        status: str,
        headers: list[tuple[str, str]],
        exc_info: Any = None,
    ) -> Callable[[bytes], object]:
        """Do as ``start_response``, and note the status.

        What the server returns sends a part of the body at once.
        """
        self.status = status
        if exc_info is None:
            return start_response(status, headers)
        return start_response(status, headers, exc_info)

    def is_shared_with(self, middleware: object, environ: WSGIEnvironment) -> bool:
        """Whether a middleware that is called with this environ serves the same request."""
        opener = self.opener
        return (
            opener is not None
            and opener is not middleware
            and self.environ == id(environ)
            and self.is_open
        )


class _UpgradeQueue(RequestQueue):
    """The queue of a request that may become a connection: of that some events are handled here.

    Whatever handles them may know a queue whose tasks need not wait for its end.
    """

    __slots__ = ()

    def add_task(self, func: Callable[P, Any], *args: P.args, **kwargs: P.kwargs) -> None:
        queue = found()
        if queue is None:
            super().add_task(func, *args, **kwargs)
        else:
            queue.add_task(func, *args, **kwargs)

    def flush(self) -> None:
        queue = found()
        if queue is None:
            super().flush()

    def options(
        self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]
    ) -> WithOptions:
        queue = found()
        if queue is None:
            return super().options(base, **options)
        made: WithOptions = queue.options(base, **options)
        return made


def open_queue(runtime: Runtime, environ: WSGIEnvironment, opener: object = None) -> RequestQueue:
    """Return a new queue for a request, which the environ then holds.

    Args:
        runtime: the settings and workers to use.
        environ: that of the request.
        opener: the middleware that opens it. Default: a framework does, which serves it already.
    """
    kind = _UpgradeQueue if "HTTP_UPGRADE" in environ else RequestQueue
    queue = environ[QUEUE_KEY] = kind(runtime, environ, opener)
    if runtime.settings.store is not None:
        start_serving(runtime)
    if runtime.check_token is not None:
        answer_check(queue, environ.get(CHECK_HEADER), "wsgi")
    return queue


def note_end(queue: RequestQueue, client_left: bool = False) -> None:
    """Note what was seen of a response that ends, if there is a task to ask for it."""
    if queue.is_used and queue.batch.added is not None:
        queue.note_response(queue.status, client_left=client_left)
