"""Notes which functions of this package a process calls, in the order in which it calls them.

`wsgi` and `asgi` wrap an application and begin to note; the threads that are to be seen start
after that.
"""

from __future__ import annotations

import dis
import json
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from benchmarks import work
from benchmarks.server import ROOT

PACKAGE = ROOT / "bgadapters"
CALLS, FINISHED = "/calls", "/finished"
"""What the wrapper answers by itself, so that to ask for the calls makes none."""

_INLINED = ("<listcomp>", "<setcomp>", "<dictcomp>")  # calls up to Python 3.11 only
_SWITCH_INTERVAL = 1.0  # seconds


class _Function(NamedTuple):
    module: str
    name: str
    begins_at: int  # the offset where a call of it begins; a coroutine goes on at another


_calls: list[tuple[str, str, str]] = []  # thread, module, function
_functions: dict[CodeType, _Function | None] = {}


def wsgi(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """Note the calls below a WSGI application, and answer for them."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        answer = _answer(environ["PATH_INFO"])
        if answer is None:
            return app(environ, start_response)
        start_response("200 OK", [("Content-Length", str(len(answer)))])
        return [answer]

    _start()
    return application


def asgi(app: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Note the calls below an ASGI application, and answer for them."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        answer = _answer(scope.get("path", ""))  # a lifespan has none
        if answer is None:
            await app(scope, receive, send)
            return
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    _start()
    return application


def _start() -> None:
    threading.setprofile(_note)
    sys.setprofile(_note)
    # Threads take turns where one of them waits and nowhere else: the order hardly varies then.
    sys.setswitchinterval(_SWITCH_INTERVAL)


def _answer(path: str) -> bytes | None:
    if path == CALLS:
        calls = _calls.copy()
        del _calls[: len(calls)]
        return json.dumps(calls).encode()
    if path == FINISHED:
        return json.dumps(work.finished()).encode()
    return None


def _note(frame: FrameType, event: str, _: object) -> None:
    if event != "call":
        return
    code = frame.f_code
    if code not in _functions:
        _functions[code] = _function(code)
    function = _functions[code]
    if function is not None and frame.f_lasti == function.begins_at:
        _calls.append((threading.current_thread().name, function.module, function.name))


def _function(code: CodeType) -> _Function | None:
    """Name a function of the package; None for all other code."""
    file = Path(code.co_filename)
    if not file.is_relative_to(PACKAGE) or code.co_name in _INLINED:
        return None
    module = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
    begins_at = next(each.offset for each in dis.get_instructions(code) if each.opname == "RESUME")
    return _Function(module.removesuffix(".__init__"), code.co_qualname, begins_at)
