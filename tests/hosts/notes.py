"""What users should know about each server: the hand-written part of docs/hosts.md."""

from __future__ import annotations

NOTES: dict[str, str] = {
    "In general": """\
A deadline of the server's own ends a process whether or not its tasks have finished. Keep
`drain_timeout` (30 seconds) a few seconds below it, or raise it, so that what is abandoned is
named in the log. uWSGI and gunicorn tell an application their deadlines (gunicorn's ASGI worker
does not): there a warning at start-up says so if `worker-reload-mercy`, `reload-mercy` or
`graceful_timeout` is the shorter one.
""",
    "gunicorn": """\
`--graceful-timeout` (30 seconds) is what a worker gets on SIGTERM and SIGHUP, and `--timeout`
(30 seconds) when it ends by itself because of `--max-requests`. With a single worker, no request
is answered while the old one finishes its tasks: use two or more. SIGQUIT and SIGINT end the
ASGI worker within a second; async tasks that run then are cancelled, everything else finishes.
A gthread worker that is just taking a request when SIGQUIT or Ctrl-C comes may wait for a lock that
it holds itself, and with it tasks that use a thread pool, until the master kills it.

With the gevent worker, patch early: with `--preload` put `from gevent import monkey;
monkey.patch_all()` at the top of `gunicorn.conf.py`, or what was imported before the fork waits
without letting other greenlets run. No task should be running there when gunicorn forks: greenlets
are copied with the process, and both would go on with it. Django's async views cannot use the
async ORM there, with or without this library: asyncio has one running loop for all greenlets. Async
tasks can.
""",
    "uvicorn": """\
`--timeout-graceful-shutdown` is not set by default; where it is, a request whose tasks still run
is cancelled after it, and they go on until `drain_timeout`. With `--workers` or `--reload`
uvicorn ends a process by the signal itself: there Django needs `bgadapters.django.asgi`, and a
WSGI application under a2wsgi a server of its own.
""",
    "hypercorn": """\
It waits three seconds (`graceful_timeout`) for open requests, and `shutdown_timeout` (60 seconds)
for the lifespan, in which tasks finish. Prefer its ASGI side, see the [limits](#limits).

Tasks are run by asyncio: under `--worker-class trio` they are discarded, with a warning and an
error for each response.
""",
    "daphne": """\
It stops its event loop at once, or goes on serving until a sync view that is at work has ended.
The tasks go on on that loop as the process ends.

Ten seconds after a client has left, daphne cancels the call that served it
(`--application-close-timeout`); the tasks of that call go on. A client whose response breaks off
half way is not told: the connection stays open.
""",
    "granian": """\
`--workers-kill-timeout` is not set by default; keep it above `drain_timeout` where it is. With
`--workers-lifetime` and on SIGHUP a new worker serves while the old one finishes its tasks.

With asyncio's debug mode on Python 3.11 (`-X dev`), its ASGI worker was seen to crash, or to loop
without end in asyncio's own walk through the frames, in one of some tens of runs in which many
clients left half way. Without the debug mode it never was.
""",
    "uvicorn with a WSGI application": """\
Use [a2wsgi](https://pypi.org/project/a2wsgi/). uvicorn's own `--interface wsgi` and asgiref's
`WsgiToAsgi` never close a response, so that its tasks never run; [the check](check.md) tells.
""",
    "waitress, cheroot, Werkzeug, wsgiref, runserver": """\
These leave SIGTERM to kill the process. Set up in the main thread, `bgadapters` has it end by its
exit hooks instead, once it has run a task; `handle_sigterm=False` turns that off. In Django this
needs `"bgadapters.django"` in `INSTALLED_APPS`, or the middleware; where the decorator is alone, a
warning at the first task says so, and `manage.py check --deploy` does.

A reloader (`flask run --debug`, `runserver` without `--noreload`) that gets SIGTERM kills the
server it has started with SIGKILL. On Ctrl-C, and when it reloads, tasks finish.
""",
    "uWSGI": """\
Threads must be enabled: `enable-threads = true`, which recent versions imply. Without them tasks
run in the thread that has answered, and a warning says so.

To end it, write `q` to its `master-fifo`, or set `exit-on-reload = true` and send SIGHUP. SIGTERM
reloads it, or ends it with `die-on-term = true`, but then a process that is at work on a request
loses its tasks. `worker-reload-mercy` and `reload-mercy` (60 seconds) are its deadlines.
""",
    "Apache and nginx": """\
See [their own page](hosts-apache-nginx.md).
""",
}
