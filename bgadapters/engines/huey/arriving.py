"""The task in which a consumer of Huey runs those of applications."""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakKeyDictionary, ref

from huey import Huey


class Works(Protocol):
    """An engine, where its tasks arrive."""

    def work(self, payload: str, attempt: int, task: Any) -> None:
        """Run one, and tell Huey how that ended."""
        ...


class _Arriving:
    """It is registered once with each Huey, which has a name but once.

    Attributes:
        engine: that of the application that was set up last.
        task_class: what Huey makes of it.
    """

    def __init__(self, huey: Huey, engine: Works) -> None:
        self.engine = ref(engine)

        def run(payload: str, attempt: int, task: Any) -> None:
            found = self.engine()
            if found is None:
                raise RuntimeError("the application whose engine it was is there no more")
            found.work(payload, attempt, task)

        run.__module__ = "bgadapters"
        self.task_class: Any = huey.task(name="run", context=True)(run).task_class


_tasks: WeakKeyDictionary[Huey, _Arriving] = WeakKeyDictionary()


def registered(huey: Huey, engine: Works) -> Any:
    """Have the tasks that arrive in a Huey run by an engine; return what Huey makes of them."""
    task = _tasks.get(huey)
    if task is None:
        task = _tasks[huey] = _Arriving(huey, engine)
    task.engine = ref(engine)
    return task.task_class
