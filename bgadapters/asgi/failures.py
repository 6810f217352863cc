"""Whose an exception is that is handled while a response is made."""

from __future__ import annotations

from collections.abc import Mapping
from types import FrameType

from bgadapters.asgi_types import Scope


def has_handler_outside(exception: BaseException, scope: Scope) -> bool:
    """Whether Starlette will have a handler answer: that of ``Exception``, outside of all else."""
    handlers = getattr(scope.get("app"), "exception_handlers", None)
    return (
        isinstance(exception, Exception)
        and isinstance(handlers, Mapping)
        and (Exception in handlers or 500 in handlers)
    )


def left_an_application(exception: BaseException) -> bool:
    """Whether an exception that is handled somewhere was raised through a call of an application.

    Such a call has a frame whose arguments are a scope and two callables. The frame in which it is
    handled does not count: what that has called may be anything.
    """
    traceback = exception.__traceback__
    while traceback is not None and (traceback := traceback.tb_next) is not None:
        if _serves(traceback.tb_frame):
            return True
    return False


def _serves(frame: FrameType) -> bool:
    code = frame.f_code
    if code.co_argcount < 3:
        return False
    names, values = code.co_varnames[: code.co_argcount], frame.f_locals
    scope, receive, send = (values.get(name) for name in names[-3:])
    return isinstance(scope, Mapping) and "type" in scope and callable(receive) and callable(send)
