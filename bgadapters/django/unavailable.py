"""What a request is answered whose tasks cannot be kept or sent: 503, unless the project says.

In a project that has a ``handler500`` of its own, and while ``DEBUG`` is on, it is an exception
like any other.
"""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core.signals import got_request_exception
from django.http import HttpResponse
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.urls import get_resolver, get_urlconf
from django.views import defaults

from bgadapters.adapters import UnavailableError, log

_TEMPLATE = "503.html"
_RETRY_AFTER = "10"  # seconds


def answer(request: Any, exception: BaseException) -> HttpResponse | None:
    """Return the response to an exception that is being handled; None if it is not for us.

    Django's signal tells of it, as of any exception that becomes an error page.
    """
    if not isinstance(exception, UnavailableError) or _is_left_to_django():
        return None
    log(logging.ERROR, "A request is answered with 503", exc_info=exception)
    got_request_exception.send(sender=None, request=request)
    response = _page()
    response["Retry-After"] = _RETRY_AFTER
    return response


def _is_left_to_django() -> bool:
    if settings.DEBUG or settings.DEBUG_PROPAGATE_EXCEPTIONS:
        return True
    handler: Any = get_resolver(get_urlconf()).resolve_error_handler(500)
    return handler is not defaults.server_error


def _page() -> HttpResponse:
    """As Django makes that of 500: context processors would ask a database that may be away."""
    try:
        return HttpResponse(render_to_string(_TEMPLATE), status=503)
    except TemplateDoesNotExist:
        return HttpResponse("Service Unavailable", status=503, content_type="text/plain")
