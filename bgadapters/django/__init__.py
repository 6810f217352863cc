"""Django: a decorator for views, and what may be installed beside it.

::

    from bgadapters.django import background_tasks

    @background_tasks
    def send_notification(request, email):
        request.background_tasks.add_task(write_notification, email, message="some notification")

The decorator needs no settings. ``"bgadapters.django"`` in ``INSTALLED_APPS`` adds
settings that are checked at start-up and system checks; ``BackgroundTasksMiddleware``
gives every request a queue without the decorator, ``BackgroundTasks`` is one for scripts.
"""

from bgadapters.adapters import explain_missing

try:
    from bgadapters.django.decorator import background_tasks
    from bgadapters.django.middleware import BackgroundTasksMiddleware
    from bgadapters.django.queue import BackgroundTasks
    from bgadapters.django.request import HttpRequest
except ModuleNotFoundError as missing:
    for needed in ("django", "asgiref"):
        explain_missing(
            missing, needed, "bgadapters.django needs it: pip install 'bgadapters[django]'."
        )
    raise

__all__ = ["BackgroundTasks", "BackgroundTasksMiddleware", "HttpRequest", "background_tasks"]
