"""A task whose call is made by an engine that this process waits for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bgadapters.core.model.control import Around, ControlledTask, Feature
from bgadapters.core.model.task import Call, Places, Task, TaskWrapper, callable_name
from bgadapters.core.sending.engine import Run, RunningEngine


class ElsewhereCall(TaskWrapper):
    """Stands for a function that is called in another process.

    Args:
        func: the function.
        engine: what calls it.
        name: that of the engine.

    Attributes:
        payload: the call, as the engine gets it. To be set before it is called.
        run: what runs it. To be set before it is called.
        attempt: the number of the attempt. To be set before it is called.
    """

    payload: str
    run: Run
    attempt: int

    def __init__(self, func: Any, engine: RunningEngine, name: str) -> None:
        self._func = func
        self.engine = engine
        self.places = Places(name, engine.places)
        self.__qualname__, self.__module__ = callable_name(func), ""

    async def __call__(self, *_: Any, **__: Any) -> None:
        """Have it called, and wait for it."""
        await self.run(self.payload, self.attempt)

    def unwrap(self, task: Task) -> Call:
        """Return the call that is made there."""
        return Call(self._func, task.args, task.kwargs or {})


class InPlace(Feature):
    """Has the engine make a place for each attempt, before the time of that begins.

    Args:
        call: the call.
    """

    __slots__ = ("_call",)

    def __init__(self, call: ElsewhereCall) -> None:
        self._call = call

    def around(self, task: ControlledTask, is_async: bool) -> Around:  # noqa: ARG002
        """Return what is entered around an attempt."""
        return self._in_place(task.attempt)

    @asynccontextmanager
    async def _in_place(self, attempt: int) -> AsyncIterator[None]:
        async with self._call.engine.place() as self._call.run:
            self._call.attempt = attempt
            yield
