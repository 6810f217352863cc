"""A task whose call is made by an engine that this process waits for."""

from __future__ import annotations

from typing import Any

from bgadapters.core.model.task import Call, Task, TaskWrapper, callable_name
from bgadapters.core.sending.engine import RunningEngine


class ElsewhereCall(TaskWrapper):
    """Stands for a function that is called in another process.

    Args:
        func: the function.
        engine: what calls it.

    Attributes:
        payload: the call, as the engine gets it. To be set before it is called.
    """

    __slots__ = ("__qualname__", "_engine", "_func", "payload")

    payload: str

    def __init__(self, func: Any, engine: RunningEngine) -> None:
        self._func = func
        self._engine = engine
        self.__qualname__ = callable_name(func)

    async def __call__(self, *_: Any, **__: Any) -> None:
        """Have it called, and wait for it."""
        await self._engine.call(self.payload)

    def unwrap(self, task: Task) -> Call:
        """Return the call that is made there."""
        return Call(self._func, task.args, task.kwargs or {})
