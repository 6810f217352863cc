"""Django's WSGI application, whose responses end after their tasks where a process is frozen.

With the setting ``HOLD_RESPONSE``. In ``wsgi.py``, change one import line::

    from bgadapters.django.wsgi import get_wsgi_application
"""

from __future__ import annotations

from django.core import wsgi

from bgadapters.django.runtime import get_runtime
from bgadapters.wsgi import BackgroundTasksMiddleware


def get_wsgi_application() -> BackgroundTasksMiddleware:
    """Return Django's WSGI application, inside a middleware that releases the tasks of its views.

    It knows the end of a response without being told: callers on serverless platforms close none.

    Raises:
        ImproperlyConfigured: an unknown or impossible setting.
    """
    application = wsgi.get_wsgi_application()
    return BackgroundTasksMiddleware(application, runtime=get_runtime())
