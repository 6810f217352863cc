"""The decorator for sync, async and class-based views."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar, overload

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from bgadapters.django.installation import note_decorator
from bgadapters.django.request import listen
from bgadapters.django.respond import arespond, respond
from bgadapters.django.runtime import get_runtime

View = TypeVar("View", bound=Callable[..., Any])


@overload
def background_tasks(view: View) -> View: ...


@overload
def background_tasks() -> Callable[[View], View]: ...


def background_tasks(view: Any = None) -> Any:
    """Give a view ``request.background_tasks``, released when its response is closed.

    With parentheses or without: ``@background_tasks`` and ``@background_tasks()`` are the same.
    For function views, sync and async, above or below other decorators; for class-based
    views through ``@method_decorator(background_tasks, name="dispatch")``. Below the view
    ``bgadapters.add_task`` works too. An exception that escapes the view discards the tasks.

    Args:
        view: a callable whose first argument is the request.

    Raises:
        TypeError: ``view`` is a class, or not callable.
    """
    if view is None:
        return background_tasks
    if isinstance(view, type):
        raise TypeError(
            f"@background_tasks cannot decorate the class {view.__name__} itself; use "
            "@method_decorator(background_tasks, name='dispatch')"
        )
    if not callable(view):
        raise TypeError(f"@background_tasks decorates a view function, not {view!r}")
    _install()
    if iscoroutinefunction(view):

        @wraps(view)
        async def async_wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await arespond(_checked(request, view), lambda: view(request, *args, **kwargs))

        return async_wrapper

    @wraps(view)
    def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
        return respond(_checked(request, view), lambda: view(request, *args, **kwargs))

    return wrapper


def _install() -> None:
    """Do what the application in ``INSTALLED_APPS`` does, as far as it can be done from here."""
    listen()
    note_decorator()
    if settings.configured:
        with suppress(ImproperlyConfigured):  # the first request tells
            get_runtime().handle_sigterm()


def _checked(request: Any, view: Any) -> Any:
    if not hasattr(request, "META"):
        raise TypeError(
            f"@background_tasks on {getattr(view, '__qualname__', view)} got "
            f"{type(request).__name__} where it expects the request; decorate methods through "
            "@method_decorator(background_tasks, name='dispatch') on their class"
        )
    return request
