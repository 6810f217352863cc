"""A middleware that gives every request a queue, without the decorator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponse

from bgadapters.django.layer import part_of
from bgadapters.django.request import listen
from bgadapters.django.respond import arespond, respond
from bgadapters.django.runtime import get_runtime
from bgadapters.django.unavailable import answer


class BackgroundTasksMiddleware:
    """Give every request ``request.background_tasks``; sync and async.

    ``bgadapters.add_task`` works in everything below it in ``MIDDLEWARE``.

    Raises:
        ImproperlyConfigured: an unknown or impossible setting.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = _without_conversion(get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        get_runtime().handle_sigterm()
        listen()

    def __call__(self, request: HttpRequest) -> Any:
        """Serve one request."""
        make = arespond if self._is_async else respond
        return make(request, lambda: self._get_response(request))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """An exception escaped the view. Django's hook.

        What it is turned into is not ours, unless it tells of durable tasks.
        """
        part_of(request)[0].discard(exception)
        return answer(request, exception)


def _without_conversion(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """What is below without Django's wrapper around it, which makes responses of exceptions.

    Ours has such a wrapper as well, which makes the same of them; and we see what they were.
    """
    is_wrapper = getattr(get_response, "__code__", None) in _CONVERSIONS
    return get_response.__wrapped__ if is_wrapper else get_response  # type: ignore[attr-defined]


def _response(_: HttpRequest) -> HttpResponse:
    return HttpResponse()


async def _aresponse(_: HttpRequest) -> HttpResponse:
    return HttpResponse()


_CONVERSIONS = {convert_exception_to_response(each).__code__ for each in (_response, _aresponse)}
