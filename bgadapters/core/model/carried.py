"""What of a request goes with a task to another process: the framework's part, and others'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bgadapters.core.model import guard, instrumentation
from bgadapters.core.model.hooks import FrameworkHooks

_FRAMEWORK = "framework"


def carried_with(hooks: FrameworkHooks) -> dict[str, Any]:
    """Return, as JSON, what goes with a task that is being added here."""
    if hooks.carry is None and not instrumentation.carriers:
        return {}
    found = {} if hooks.carry is None else {_FRAMEWORK: hooks.carry()}
    for name, carrier in list(instrumentation.carriers.items()):
        found[name] = carrier.carry()
    return {name: value for name, value in found.items() if value}


def restore(hooks: FrameworkHooks, carried: Mapping[str, Any]) -> None:
    """Leave in this context, which is that of the task, what came with it."""
    for name, value in carried.items():
        carrier = instrumentation.carriers.get(name)
        if name == _FRAMEWORK and hooks.restore is not None:
            guard.call(hooks.restore, value, doing=_RESTORING)
        elif carrier is not None:
            guard.call(carrier.restore, value, doing=_RESTORING)


_RESTORING = "Restoring what came with a background task"
