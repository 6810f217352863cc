"""Django's tasks framework, where Django has it, and its backport: one face for the tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any

PACKAGES = {"django": "django.tasks", "backport": "django_tasks"}
BACKENDS = {
    "django": "bgadapters.django.tasks.PostResponseBackend",
    "backport": "bgadapters.django.tasks_backport.PostResponseBackend",
}


class Tasks:
    """A framework with our backend as its default one."""

    def __init__(self, name: str, settings: Callable[..., object]) -> None:
        self.path = BACKENDS[name]
        self.package = PACKAGES[name]
        self._set = settings
        self.configure()

    def configure(self, **default: Any) -> None:
        """Set ``TASKS``, with these keys in the default backend beside its class."""
        backends = {"default": {"BACKEND": self.path, **default}, "other": {"BACKEND": self.path}}
        self._set(TASKS=backends)

    def module(self, name: str = "") -> ModuleType:
        """The framework's package or a module in it."""
        return import_module(f"{self.package}{name and '.'}{name}")

    def task(self, func: Callable[..., Any], **options: Any) -> Any:
        """Make a task."""
        return self.module().task(**options)(func)

    @property
    def backend(self) -> Any:
        """The default backend, as this thread has it."""
        return self.module().task_backends["default"]

    @property
    def signals(self) -> dict[str, Any]:
        """The three signals."""
        module = self.module("signals")
        return {name: getattr(module, f"task_{name}") for name in SIGNALS}

    @property
    def no_result(self) -> type[Exception]:
        """What is raised for a result that is not there."""
        found: type[Exception] = self.module("exceptions").TaskResultDoesNotExist
        return found

    @property
    def invalid_task(self) -> type[Exception]:
        """What is raised for a task that cannot be run."""
        module = self.module("exceptions")
        name = "InvalidTask" if hasattr(module, "InvalidTask") else "InvalidTaskError"
        found: type[Exception] = getattr(module, name)
        return found


SIGNALS = ["enqueued", "started", "finished"]


def missing(name: str) -> str:
    """Why a framework cannot be tested here; empty if it can."""
    return "" if find_spec(PACKAGES[name]) else f"{PACKAGES[name]} is not there"


def pid() -> str:
    """How the ids of this process's workers begin."""
    return f"{os.getpid()}-"
