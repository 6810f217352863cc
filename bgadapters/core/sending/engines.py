"""The engines of one application, by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from typing import NamedTuple

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import guard
from bgadapters.core.model.errors import SettingsError
from bgadapters.core.model.options import LOCAL
from bgadapters.core.sending.engine import Engine, RunningEngine
from bgadapters.core.sending.health import Health

PROCESS = "process"
_PROCESS_ENGINE = "bgadapters.engines.process:ProcessEngine"


class Named(NamedTuple):
    """One engine of an application."""

    name: str
    engine: Engine
    health: Health


class Route(NamedTuple):
    """What gets a task, in this order.

    Attributes:
        first: its engine.
        others: those that get it while that is down; None stands for this process.
    """

    first: Named
    others: tuple[Named | None, ...]


class Engines:
    """Those of one application.

    Args:
        runtime: the application.

    Raises:
        SettingsError: one of them fails over to what is none.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._found: dict[str, Named] = {}
        for name, engine in runtime.settings.engines.items():
            self._found[name] = Named(name, engine, Health())
        self._runtime = runtime
        for each in list(self._found.values()):
            for name in each.engine.failover:
                if name != LOCAL and (name == each.name or not self._can_be_sent_to(name)):
                    raise SettingsError(
                        f"engine {each.name!r}: failover names {name!r}; it accepts {LOCAL!r} and "
                        f"other engines of the application that are not of this process: "
                        f"{self._names()}"
                    )

    def named(self, name: str) -> Named:
        """Return an engine.

        Raises:
            TypeError: there is none of that name.
        """
        if name not in self._found:
            if name != PROCESS:
                raise TypeError(
                    f"options(engine={name!r}): the setting 'engines' names {self._names()}; "
                    f"'local' and 'process' are always there"
                )
            module, _, kind = _PROCESS_ENGINE.partition(":")
            engine = getattr(import_module(module), kind)()
            engine.bind(self._runtime)
            self._found.setdefault(name, Named(name, engine, Health()))  # of two threads one
        return self._found[name]

    def route(self, name: str) -> Route:
        """Return what gets the tasks for an engine.

        Raises:
            TypeError: there is none of that name.
        """
        first = self.named(name)
        others = (None if each == LOCAL else self._found[each] for each in first.engine.failover)
        return Route(first, tuple(others))

    def _can_be_sent_to(self, name: str) -> bool:
        return name in self._found and not isinstance(self._found[name].engine, RunningEngine)

    def _names(self) -> str:
        return ", ".join(map(repr, self._found)) or "none"

    def close(self) -> None:
        """The process ends."""
        for each in self._all():
            guard.call(each.close, doing="Closing an engine")

    def reset_after_fork(self) -> None:
        """In a forked child: what is open belongs to the parent."""
        for each in self._all():
            with suppress(Exception):
                each.reset_after_fork()

    def _all(self) -> Iterator[Engine]:
        return (each.engine for each in list(self._found.values()))


def engines_of(runtime: Runtime) -> Engines:
    """Return the engines of an application."""
    return runtime.sent_by(Engines)
