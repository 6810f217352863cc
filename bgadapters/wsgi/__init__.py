"""When a WSGI response is closed (PEP 3333), and a middleware for any WSGI application.

PEP 3333: "If the iterable returned by the application has a ``close()`` method,
the server or gateway **must** call that method upon completion of the current
request", whether it completed normally or not. Several servers complete the
response, or take the next request of the connection, only after ``close()`` has
returned: so it releases the queue to worker threads and does nothing else.

A queue is the current one while code below its response runs: the application's
call, each step of its body, its close. So one request can make another in the
middle of its own.
"""

from __future__ import annotations

from bgadapters.wsgi.body import Ending, on_close
from bgadapters.wsgi.middleware import INSTALLATION, BackgroundTasksMiddleware, Refuse, refuse
from bgadapters.wsgi.queues import QUEUE_KEY, RequestQueue, open_queue

__all__ = [
    "INSTALLATION",
    "QUEUE_KEY",
    "BackgroundTasksMiddleware",
    "Ending",
    "Refuse",
    "RequestQueue",
    "on_close",
    "open_queue",
    "refuse",
]
