"""What a command is told to look at: an import path, made an application."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from inspect import Parameter, iscoroutine, iscoroutinefunction, isfunction, signature
from typing import Any, Literal

Interface = Literal["wsgi", "asgi"]


class TargetError(Exception):
    """The target was written wrongly, or names nothing that is there."""


def load(target: str, *, is_factory: bool = False) -> Callable[..., Any]:
    """Import an application as servers do.

    Args:
        target: ``module:attribute``, the attribute dotted or followed by ``()``.
        is_factory: whether the attribute is called to get the application. A function that needs
            no argument is called anyway: no application is one.

    Raises:
        TargetError: nothing of this name is there, or it is no application.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    module_name, _, path = target.partition(":")
    if not module_name or not path:
        raise TargetError(f"{target!r} is neither module:application nor a URL")
    if path.endswith("()"):
        path, is_factory = path[:-2], True
    application = _attribute(_module(module_name), path)
    if not callable(application):
        raise TargetError(f"{target} is {application!r}, which is no application")
    if is_factory or _makes_an_application(target, application):
        application = application()
        if iscoroutine(application):
            application.close()
            raise TargetError(
                f"{target} is a coroutine function; a factory is a plain function, as for servers"
            )
        if not callable(application):
            raise TargetError(f"{target} returned {application!r}, which is no application")
    return application  # type: ignore[no-any-return]  # which calls it takes, interface_of tells


def _makes_an_application(target: str, found: Any) -> bool:
    """Whether a function is a factory, for it can be called without an argument."""
    if not isfunction(found):
        return False
    parameters = signature(found).parameters.values()
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return False  # a decorator's, of which nobody can tell
    required = [p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD]
    if required and len(required) not in {2, 3}:
        raise TargetError(
            f"{target} is a function that takes {', '.join(required)}. A WSGI application takes "
            "two arguments, an ASGI application three, and a factory none: write one that needs "
            "none, and name that"
        )
    return not required


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not f"{name}.".startswith(f"{exc.name}."):
            raise  # what is missing is something else, which the module imports
        raise TargetError(f"there is no module {exc.name!r} here: {os.getcwd()}") from exc


def _attribute(found: Any, path: str) -> Any:
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as exc:
            raise TargetError(str(exc)) from exc
    return found


def targets_of_django() -> list[str]:
    """Return what the settings named by ``DJANGO_SETTINGS_MODULE`` say is served.

    Raises:
        TargetError: the variable is not set, or the settings name no application.
    """
    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise TargetError("name a target, or set DJANGO_SETTINGS_MODULE")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    from django.conf import settings

    names = [getattr(settings, name, None) for name in ("WSGI_APPLICATION", "ASGI_APPLICATION")]
    found = [":".join(name.rpartition(".")[::2]) for name in names if name]
    if not found:
        raise TargetError("the settings have neither WSGI_APPLICATION nor ASGI_APPLICATION")
    return found


def interface_of(application: Callable[..., Any]) -> Interface:
    """Tell WSGI and ASGI applications apart."""
    call = getattr(application, "__call__", None)  # noqa: B004  its value, not its presence
    if iscoroutinefunction(application) or iscoroutinefunction(call):
        return "asgi"
    return "asgi" if _takes_three(application) else "wsgi"


def _takes_three(application: Callable[..., Any]) -> bool:
    """Whether it is called like ASGI's ``app(scope, receive, send)``: a plain function may be."""
    try:
        parameters = signature(application).parameters.values()
    except (TypeError, ValueError):
        return False
    required = [p for p in parameters if p.default is p.empty and p.kind in _POSITIONAL]
    return len(required) == 3


_POSITIONAL = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
