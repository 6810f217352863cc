"""A middleware that gives every request a queue, without the decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest

from bgadapters.django.request import listen, queue_of
from bgadapters.django.respond import arespond, respond
from bgadapters.django.runtime import get_runtime


class BackgroundTasksMiddleware:
    """Give every request ``request.background_tasks``; sync and async.

    ``bgadapters.add_task`` works in everything below it in ``MIDDLEWARE``.

    Raises:
        ImproperlyConfigured: an unknown or impossible setting.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        get_runtime().handle_sigterm()
        listen()

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request."""
        make = arespond if self._is_async else respond
        return make(request, lambda: self._get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> None:
        """An exception escaped the view. Django's hook; what it is turned into is not ours."""
        queue_of(request).discard(exception)
