"""Durable tasks of which nothing more is asked, as of nearly all.

What is the same in all calls of a function is decided with the first one.
"""

from __future__ import annotations

import sys
from contextvars import Context
from types import FunctionType
from typing import Any, NamedTuple

from bgadapters.core.model.encoding import reference
from bgadapters.core.model.options import DEFAULT_OPTIONS, Options, TaskOptions
from bgadapters.core.model.payload import STORED, beginning_of, check_may_be_called, options_to_pack
from bgadapters.core.model.task import FullTask

_SIZE = 1024  # functions: more than any application adds


class Usual(NamedTuple):
    """A function, as it is added with the same options again and again.

    Attributes:
        options: all of them.
        given: those that were given at the call.
        beginning: how its payload begins.
        name: what logs call its tasks.
        module: the name of its module.
        attribute: its own name there.
    """

    options: Options
    given: TaskOptions
    beginning: str
    name: str
    module: str
    attribute: str

    def is_found(self, func: Any) -> bool:
        """Whether the function is what would be found by its name."""
        module = sys.modules.get(self.module)
        return module is not None and vars(module).get(self.attribute) is func


class UsualTasks:
    """The functions that one application adds as durable tasks, and what is known of them.

    Args:
        modules: the setting ``task_modules``.
    """

    def __init__(self, modules: Any) -> None:
        self._modules = modules
        self._known: dict[Any, Usual] = {}

    @property
    def functions(self) -> list[Any]:
        """Those of which something is known; not without end many."""
        return list(self._known)

    def of(self, func: Any, options: Options, given: TaskOptions) -> Usual | None:
        """Return what is known of a function that is being added; None if more is asked of it.

        Args:
            func: the function.
            options: all of its options.
            given: those that were given at the call.

        Raises:
            NotPortableError: it may not be called out of a store.
        """
        if type(func) is not FunctionType:
            return None
        found = self._known.get(func)
        # The options of two calls are the same object, or this is as if it were the first one.
        if found is None or found.options is not options or found.given is not given:
            if not _is_usual(func, options, given):
                return None
            check_may_be_called(func, self._modules, STORED)
            found = _seen(func, options, given)
            if len(self._known) >= _SIZE:
                self._known.clear()
            self._known[func] = found
        return found if found.is_found(func) else None


def _is_usual(func: FunctionType, options: Options, given: TaskOptions) -> bool:
    """Whether the options change nothing but that a task is kept, and whether it is discarded."""
    plain = options._replace(
        durable=False, name=None, always=False, run_on="success", on_commit=True
    )
    return (
        plain == DEFAULT_OPTIONS
        and options.run_on != "error"
        and not options_to_pack(given.given)
        and func.__module__ not in (None, "__main__")
    )


def _seen(func: FunctionType, options: Options, given: TaskOptions) -> Usual:
    return Usual(
        options,
        given,
        beginning_of(reference(func)),
        FullTask(func, (), None, Context(), options).name,
        func.__module__,
        func.__qualname__,
    )
