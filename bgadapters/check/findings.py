"""What the evidence means, in words, and what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from bgadapters.check.evidence import Evidence
from bgadapters.check.listener import Visit
from bgadapters.core.app.runtime import CHECK_TOKEN
from bgadapters.core.model import lines

Verdict = Literal["ok", "FAILED", "note"]


class Finding(NamedTuple):
    """One thing that was found."""

    verdict: Verdict
    about: str
    """Which question it answers; docs/check.md lists them."""
    text: str
    advice: str = ""

    def __str__(self) -> str:
        said = [self.text, *self.advice.split("\n")] if self.advice else [self.text]
        return f"{self.verdict:6}  " + "\n        ".join(map(lines.escaped, said))


def judge(evidence: Evidence) -> list[Finding]:
    """Say what was found, the most important first."""
    if not evidence.visits:
        return [_no_queue(evidence)]
    visit = evidence.visits[0]
    found = [*_queues(evidence)]
    for question in _QUESTIONS if visit.count("started") else _WITHOUT_TASKS:
        found += question(evidence, visit)
    return found


_OPENED_BY = {
    "wsgi": "the WSGI middleware",
    "asgi": "the ASGI middleware",
    "fastapi": "the FastAPI dependency",
    "django": "bgadapters.django",
    "django-asgi": "bgadapters.django",
}


def _opener(place: str) -> str:
    return _OPENED_BY.get(place, place)  # a shim of somebody else's calls itself as it likes


def _no_queue(evidence: Evidence) -> Finding:
    if evidence.gateway == "url" and evidence.answer.status is None:
        return Finding(
            "FAILED",
            "queue",
            f"{evidence.request} got no answer: {evidence.answer.error}",
            f"Start the server, with {CHECK_TOKEN} in its environment; or raise --timeout.",
        )
    advice = (
        "Name a path whose view uses background tasks: "
        + ("in the URL" if evidence.gateway == "url" else "--path /...")
        + ", with --method and --header 'Name: value'\nwhere it needs them "
        "(a Host that is allowed, a session's cookie)."
    )
    if evidence.gateway == "url":
        advice += (
            f"\nIf it is the right path, the server has not opted in: start it with {CHECK_TOKEN}\n"
            "in its environment, the same value as here, and run this check on the same machine\n"
            "(in the same container), since the server reports to 127.0.0.1."
        )
    return Finding(
        "FAILED",
        "queue",
        f"no queue was opened for {evidence.request} (answered {evidence.answer})",
        advice,
    )


def _queues(evidence: Evidence) -> Iterator[Finding]:
    places = [visit.fact("opened", "place") for visit in evidence.visits]
    text = f"{_opener(places[0])} opened a queue for {evidence.request}"
    if evidence.answer.error is None:
        yield Finding("ok", "queue", f"{text} (answered {evidence.answer})")
    else:
        yield Finding(
            "FAILED",
            "queue",
            f"{text}, which did not end well (answered {evidence.answer})",
            "Look into the log of the application, or name another path.",
        )
    if len(set(places)) < len(places):
        yield Finding(
            "FAILED",
            "once",
            f"the application was called {max(map(places.count, places))} times for one request, "
            "and so would its tasks be",
            "A middleware or a proxy repeats requests, or calls its application twice."
            + _suspects(evidence.visits[1]),
        )
    elif len(places) > 1:
        others = " and ".join(_opener(place) for place in places[1:])
        yield Finding(
            "note",
            "queue",
            f"{others} opened another queue for the same request; the tasks of two queues run "
            "side by side, in no order",
            "One of them is enough.",
        )


def _not_run(evidence: Evidence, visit: Visit) -> Iterator[Finding]:
    if visit.count("refused"):
        yield Finding("FAILED", "queue", "the queue took no task: " + visit.fact("refused", "why"))
    elif visit.count("finished"):
        yield Finding(
            "FAILED",
            "release",
            f"the tasks were discarded, since the response failed (answered {evidence.answer})",
            "That is as it should be, but tells nothing else. Name a path that answers without an "
            "exception\n(404, abort() and HTTPException are exceptions).",
        )
    elif (broken := _broken_threads(visit)) is not None:
        yield broken
    elif evidence.answer.error is None:  # else that is what is wrong
        yield Finding("FAILED", "release", *_never_released(visit))


_NEVER_CLOSES = {
    "asgiref.wsgi": "asgiref.wsgi.WsgiToAsgi",
    "starlette.middleware.wsgi": "starlette.middleware.wsgi.WSGIMiddleware",
    "uvicorn.middleware.wsgi": "uvicorn's own WSGI middleware",
}


def _never_released(visit: Visit) -> tuple[str, str]:
    text = "the response was never closed, so that its end starts no task"
    for module, name in _NEVER_CLOSES.items():
        if _is_called_by(visit, module):
            return (
                f"{text}: {name} never calls close()",
                "Use a2wsgi.WSGIMiddleware in its place (pip install a2wsgi; uvicorn does so by "
                "itself when it is installed),\nor serve the application with a WSGI server.",
            )
    if visit.fact("opened", "place") in {"asgi", "fastapi", "django-asgi"}:
        return text, "The application's call did not return." + _suspects(visit)
    return text, (
        "PEP 3333: whoever takes the response's iterable must pass its close() on, or call it.\n"
        "A middleware that makes another iterable of it, or a server, does not." + _suspects(visit)
    )


_NO_SUSPECTS = frozenset(
    [
        "bgadapters",
        "threading",
        "concurrent",
        "asyncio",
        "contextlib",
        "contextvars",
        "selectors",
        "socketserver",
        "multiprocessing",
        "runpy",
        "__main__",
        "<frozen",
        "wsgiref",
        "flask",
        "werkzeug",
        "django",
        "fastapi",
        "starlette",
        "asgiref",
        "anyio",
        "uvloop",
        "gevent",
        "gunicorn",
        "uvicorn",
        "hypercorn",
        "granian",
        "daphne",
        "twisted",
        "waitress",
        "cheroot",
        "a2wsgi",
        "click",
    ]
)


def _is_called_by(visit: Visit, module: str) -> bool:
    callers: list[str] = visit.fact("opened", "callers")
    return any(caller.startswith(f"{module}.") for caller in callers)


def _suspects(visit: Visit) -> str:
    """Name who stands between the server and the queue, those that are known left out."""
    callers: list[str] = visit.fact("opened", "callers")
    named = [caller for caller in callers if caller.partition(".")[0] not in _NO_SUSPECTS]
    return f"\nIn between stand: {', '.join(dict.fromkeys(named))}." if named else ""


def _released(evidence: Evidence, visit: Visit) -> Iterator[Finding]:
    if visit.fact("opened", "place") in {"wsgi", "django"}:
        how = "the response was closed: the close hook fires here"
    else:
        how = "the queue was released when the response was complete"
    if _holds_response(visit) or not evidence.started_early:
        yield Finding("ok", "release", how)
        return
    yield Finding(
        "FAILED",
        "after",
        "a task started before the response was complete",
        "A middleware reads the whole response and ends it, before it passes anything on. It "
        "should pass the response on\nas it is, or stand below bgadapters." + _suspects(visit),
    )


def _holds_response(visit: Visit) -> bool:
    return visit.fact("opened", "settings").get("hold_response") is True


def _client(evidence: Evidence, visit: Visit) -> Iterator[Finding]:
    took = f"after {_time(evidence.answer.seconds)}"
    if _holds_response(visit):
        yield Finding(
            "note",
            "client",
            "the client waits for tasks: hold_response has them run before the end",
        )
    elif _passed(visit, "held"):
        yield Finding(
            "ok", "client", f"the client had the whole response {took} and waited for no task"
        )
    else:
        yield Finding(
            "FAILED",
            "client",
            f"the client had the whole response only {took}: it waited for a task",
            _why_waiting(visit)
            or "A middleware keeps the response until its application's call has returned; or the "
            "server has."
            + _suspects(visit),
        )


def _next(evidence: Evidence, visit: Visit) -> Iterator[Finding]:
    answer = evidence.next
    if answer is None or not _passed(visit, "held"):  # no task ran any more when it was sent
        return
    where = "the next request" + (
        " on the same connection"
        if evidence.gateway == "url" and evidence.answer.is_kept and answer.is_kept
        else " on a connection of its own (the server keeps none)"
        if evidence.gateway == "url"
        else ""
    )
    took = f"after {_time(answer.seconds)}"
    if answer.error is not None:
        yield Finding("FAILED", "next", f"{where} failed {took}: {answer.error}")
    elif _passed(visit, "ended"):
        yield Finding("ok", "next", f"{where} was answered {took}, while a task ran")
    elif visit.count("ended"):
        yield Finding(
            "FAILED",
            "next",
            f"{where} was answered only {took}: it waited for a task",
            _why_waiting(visit) or "The server serves nothing else until a task has finished.",
        )


def _passed(visit: Visit, gate: str) -> bool:
    """Whether the checker opened a gate before the task's time was up there."""
    return visit.fact(gate, "opened") is True


def _why_waiting(visit: Visit) -> str:
    if not visit.fact("opened", "threads_run"):
        return _UWSGI
    if not _in_worker(visit):
        return "Tasks run in the thread that serves requests; see below."
    return ""


_UWSGI = "Start uWSGI with --enable-threads, or --threads N."
_NO_UWSGI_THREADS = Finding(
    "FAILED", "threads", "this uWSGI lets no thread run while it serves no request", _UWSGI
)
_PATCHED_LATE = Finding(
    "FAILED",
    "threads",
    "gevent has patched Python after bgadapters was set up: its worker threads block everything",
    "Patch before anything else is imported. gunicorn's gevent worker does so by itself, unless "
    "--preload or its\nconfiguration imports the application first. Elsewhere, let "
    "'from gevent import monkey; monkey.patch_all()'\nbe the first line of what the server starts.",
)

_FORKS = Finding(
    "note",
    "threads",
    "this server forks a process for each request, which ends by os._exit() after close(): its "
    "tasks run in it first, one after another, and those for a later time are discarded",
    "In production use a server whose processes stay. In development, threads in the place of "
    "processes: with\nWerkzeug app.run(threaded=True), with socketserver ThreadingMixIn.",
)


def _broken_threads(visit: Visit) -> Finding | None:
    if visit.fact("opened", "patched_late"):
        return _PATCHED_LATE
    return None if visit.fact("opened", "threads_run") else _NO_UWSGI_THREADS


def _in_worker(visit: Visit) -> bool:
    thread: str = visit.fact("started", "thread")
    return thread.startswith("bgadapters-")


def _threads(evidence: Evidence, visit: Visit) -> Iterator[Finding]:  # noqa: ARG001
    broken = _broken_threads(visit)
    if broken is not None:
        yield broken
    elif visit.fact("opened", "ends_with_the_request"):
        yield _FORKS
    elif _in_worker(visit):
        yield Finding("ok", "threads", "a plain task ran in a worker thread")
    else:
        yield Finding(
            "FAILED",
            "threads",
            "no worker thread can be started here, so that tasks run in the thread that serves "
            "requests",
            "Raise the limit of threads (ulimit -u, the container's pids limit).",
        )


def _async(evidence: Evidence, visit: Visit) -> Iterator[Finding]:  # noqa: ARG001
    if not visit.count("ended"):
        if _broken_threads(visit) is None:  # else that is why
            yield Finding("FAILED", "threads", "a plain task was started and then stood still")
    elif not visit.count("async-started"):
        yield Finding("FAILED", "async", "an async task was not started")
    elif not visit.count("async-ended"):
        yield Finding("FAILED", "async", "an async task was started and then stood still")
    else:
        thread: str = visit.fact("async-started", "thread")
        is_own = thread == "bgadapters-loop" or visit.fact("opened", "ends_with_the_request")
        where = "bgadapters' own event loop" if is_own else "the server's loop"
        yield Finding("ok", "async", f"an async task ran, on {where}")


_ORDER = ["opened", "started", "held", "ended", "async-started", "async-ended", "finished"]


def _once(evidence: Evidence, visit: Visit) -> Iterator[Finding]:  # noqa: ARG001
    reported = [report["what"] for report in visit.reports]
    if reported == _ORDER:
        yield Finding("ok", "once", "every task ran once, in the order added")
    elif set(reported) == set(_ORDER):
        yield Finding("FAILED", "once", f"tasks ran in another order, or twice: {reported}")


_HIDES_EXCEPTIONS = "starlette.middleware.base.BaseHTTPMiddleware"  # another task runs the views
_SEES_THEM = "bgadapters.asgi.middleware.BackgroundTasksMiddleware"  # a second one, further in


def _hiding(evidence: Evidence, visit: Visit) -> Iterator[Finding]:  # noqa: ARG001
    below: list[list[str]] = visit.fact("opened", "below")
    seeing = [index for index, classes in enumerate(below) if _SEES_THEM in classes]
    for classes in below[max(seeing, default=-1) + 1 :]:
        if _HIDES_EXCEPTIONS not in classes:
            continue
        yield Finding(
            "note",
            "discard",
            f"{classes[0]} stands between bgadapters and the views and hides their exceptions: "
            "where a handler answers one, tasks run that should be discarded",
            "In FastAPI use init_app(app), which sees to it; elsewhere add "
            "BackgroundTasksMiddleware twice,\nas the first of the middlewares and as the last.",
        )


_OUTERMOST = "starlette.middleware.errors."  # of all middlewares of Starlette and FastAPI
_BASE = "starlette.middleware.base."


def _order(evidence: Evidence, visit: Visit) -> Iterator[Finding]:  # noqa: ARG001
    if visit.fact("opened", "place") != "asgi":
        return
    callers: list[str] = visit.fact("opened", "callers")
    is_end = [caller.startswith((_OUTERMOST, _BASE)) for caller in callers]
    if True not in is_end:  # it is outside of the framework's application, and so of them all
        return
    end = is_end.index(True)
    outside = [c for c in callers[:end] if c.partition(".")[0] not in _NO_SUSPECTS]
    if callers[end].startswith(_BASE):
        outside.append("a BaseHTTPMiddleware")
    if outside:
        yield Finding(
            "note",
            "order",
            f"outside of bgadapters stand: {', '.join(dict.fromkeys(outside))}. Their call lasts "
            "until the tasks have ended: metrics count that, and what they close is closed later",
            "Call init_app(app) after every app.add_middleware(...); in a list of middlewares, let "
            "BackgroundTasksMiddleware be the first.",
        )


def _shutdown(evidence: Evidence, visit: Visit) -> Iterator[Finding]:
    place = visit.fact("opened", "place")
    timeout = visit.fact("opened", "settings")["drain_timeout"]
    if timeout == 0:
        yield Finding("note", "shutdown", "drain_timeout is 0: a shutdown waits for no task")
    elif place not in {"wsgi", "django"}:
        yield _lifespan(evidence, visit, place, timeout)
    elif evidence.gateway == "asgi" or _is_called_by(visit, "a2wsgi"):
        yield Finding(
            "note",
            "shutdown",
            "a WSGI application behind an ASGI server hears of no shutdown, which may not wait for "
            "tasks",
            "Where the server's lifespan ends, 'await bgadapters.adrain()'; or serve it with a "
            "WSGI server.",
        )
    if evidence.gateway == "url":
        yield from _sigterm(visit)
    else:
        missing: str | None = visit.fact("opened", "missing")
        yield Finding(
            "note",
            "sigterm",
            "what SIGTERM does depends on the server: give its URL instead, while it runs"
            if missing is None
            else "servers without a handler of SIGTERM lose tasks",
            missing or "",
        )


_DJANGO_ASGI = (
    "In asgi.py, change one import line: from bgadapters.django.asgi import get_asgi_application"
)


def _lifespan(evidence: Evidence, visit: Visit, place: str, timeout: float) -> Finding:
    if place == "django-asgi":
        return Finding(
            "note",
            "shutdown",
            "a shutdown does not wait for tasks: Django does not speak the lifespan protocol",
            _DJANGO_ASGI,
        )
    waited = (
        bool(visit.fact("finished", "hears_shutdown"))
        if evidence.gateway == "url"
        else evidence.shutdown_waited
    )
    if waited and place == "asgi":
        text = f"at lifespan.shutdown tasks are waited for, up to {timeout:g} s"
        return Finding("ok", "shutdown", text)
    if place == "fastapi":
        return Finding(
            "note",
            "shutdown",
            "at lifespan.shutdown nothing waits for tasks; the server may, since their requests "
            "are still open",
            "To be sure, call bgadapters.fastapi.init_app(app).",
        )
    return Finding(
        "note",
        "shutdown",
        "lifespan.shutdown does not reach bgadapters, so that a shutdown may not wait for tasks",
        "Put the middleware around the whole application (a mounted one hears of no shutdown), and "
        "use a server\nthat speaks the lifespan protocol (uvicorn --lifespan on, hypercorn, "
        "granian; daphne does not).",
    )


def _sigterm(visit: Visit) -> Iterator[Finding]:
    if not visit.count("finished"):
        return
    handler: str = visit.fact("finished", "sigterm")
    is_django_asgi = visit.fact("opened", "place") == "django-asgi"
    to_add = _DJANGO_ASGI if is_django_asgi else visit.fact("opened", "missing")
    if handler == "SIG_IGN":
        yield Finding("note", "sigterm", "SIGTERM is ignored: what ends the server then is SIGKILL")
    elif to_add is not None and visit.fact("finished", "sigterm_kills"):
        yield Finding(
            "FAILED",
            "sigterm",
            "SIGTERM ends the server at once, or as soon as it has stopped, and tasks that are "
            "left are lost",
            to_add,
        )
    elif handler != "SIG_DFL":
        by = handler or "the server, outside Python"
        yield Finding("ok", "sigterm", f"SIGTERM is handled, by {by}")
    elif visit.fact("finished", "is_child"):
        yield Finding(
            "note",
            "sigterm",
            "SIGTERM ends a worker process of this server at once, and its tasks are lost",
            "Send it to the parent process alone, which lets its workers finish "
            "(systemd: KillMode=mixed).",
        )
    else:
        yield Finding(
            "FAILED",
            "sigterm",
            "nothing handles SIGTERM: it ends the server at once, and its tasks are lost",
            "Where the server is started, in the main thread: "
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit());\n"
            "or use a server that shuts down by itself, as gunicorn does.",
        )


def _settings(evidence: Evidence, visit: Visit) -> Iterator[Finding]:  # noqa: ARG001
    settings: dict[str, object] = visit.fact("opened", "settings")
    shown = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    yield Finding("note", "settings", f"in force: {shown}")


Question = Callable[[Evidence, Visit], Iterator[Finding]]

_WITHOUT_TASKS: list[Question] = [_not_run, _hiding, _settings]
_QUESTIONS: list[Question] = [
    _released,
    _client,
    _next,
    _threads,
    _async,
    _once,
    _hiding,
    _order,
    _shutdown,
    _settings,
]


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
