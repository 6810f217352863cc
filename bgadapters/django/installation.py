"""How this library is installed, and what to add where SIGTERM would cost tasks.

A handler of SIGTERM is for the main thread to set. The application in ``INSTALLED_APPS`` and the
middleware are made there. A URLconf, and with it the decorator, is imported in whatever thread
answers the first request.
"""

from __future__ import annotations

import logging
import sys

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.checks.registry import CheckRegistry

from bgadapters.adapters import log, loop_runs_here

MIDDLEWARE = "bgadapters.django.BackgroundTasksMiddleware"
NAMES_OF_MIDDLEWARE = {MIDDLEWARE, "bgadapters.django.middleware.BackgroundTasksMiddleware"}

ADD_APPLICATION = "Add 'bgadapters.django' to INSTALLED_APPS"
_USE_ASGI = (
    "In asgi.py, change one import line: from bgadapters.django.asgi import get_asgi_application"
)
_SET_UP_IN_MAIN_THREAD = "Have the main thread set Django up: get_wsgi_application()"

_has_asgi_application = False


def note_asgi_application() -> None:
    """``bgadapters.django.asgi`` has made the application: a server waits for its calls."""
    global _has_asgi_application
    _has_asgi_application = True


def what_to_change() -> str | None:
    """Return the line to add in a process that SIGTERM would kill; None if no task is lost."""
    if _has_asgi_application:
        return None
    if loop_runs_here():
        return _USE_ASGI
    return missing() or _SET_UP_IN_MAIN_THREAD


def missing() -> str | None:
    """Return the line to add, whatever the server; None if there is nothing to add."""
    return None if _has_asgi_application or is_installed() else f"{ADD_APPLICATION}."


def is_installed() -> bool:
    """Whether the application or the middleware is in the settings."""
    is_application = apps.apps_ready and apps.is_installed("bgadapters.django")
    return is_application or bool(NAMES_OF_MIDDLEWARE.intersection(settings.MIDDLEWARE))


def check_installation(*_: object, **__: object) -> list[checks.CheckMessage]:
    """W007: the decorator is used, and nothing else is installed. For ``check --deploy``."""
    if is_installed():
        return []
    return [
        checks.Warning(
            "@background_tasks is used, and 'bgadapters.django' is not in INSTALLED_APPS.",
            hint=f"{ADD_APPLICATION}: servers without a handler of SIGTERM (waitress, cheroot, "
            "Werkzeug, uvicorn when it has ended) lose tasks otherwise.",
            id="bgadapters.W007",
        )
    ]


def note_decorator() -> None:
    """A view was decorated: have ``check --deploy`` say what is missing beside the decorator.

    The checks import the URLconf, and thus may be running when the first view is decorated. What
    is registered then they do not see: it is logged instead.
    """
    checks.register(check_installation, deploy=True)
    if _are_deployment_checks_running():
        for message in check_installation():
            log(logging.WARNING, "%s %s", message.msg, message.hint)


def _are_deployment_checks_running() -> bool:
    frame = sys._getframe()  # noqa: SLF001  of sys
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code is _RUN_CHECKS:
            return bool(frame.f_locals.get("include_deployment_checks"))
    return False


_RUN_CHECKS = CheckRegistry.run_checks.__code__
