"""The process that serves requests: that of the test, with an application of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import Engine, Runtime, parse_settings
from tests.engines.bench import PATIENCE
from tests.engines.work import settings


class Web:
    """An application whose engine is called ``"it"``.

    Args:
        engine: that engine.
        given: settings; other engines are among them.
    """

    def __init__(self, engine: Engine, *, engines: Any = (), **given: Any) -> None:
        self._events: list[TaskEvent] = []  # guarded by _changed
        self._changed = threading.Condition()
        given["engines"] = {"it": engine, **dict(engines)}
        self.runtime = Runtime(parse_settings(settings(on_event=self._hear, **given)))

    def _hear(self, event: TaskEvent) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def events(self, *kinds: str) -> list[TaskEvent]:
        """Return what was told so far, of these kinds; of all if none are named."""
        with self._changed:
            return [each for each in self._events if not kinds or each.kind in kinds]

    def kinds(self, id: str = "") -> list[str]:  # noqa: A002
        """Return the kinds of what was told, of a task or of all."""
        return [each.kind for each in self.events() if id in ("", each.task_id)]

    def wait_for(self, kind: str, count: int = 1) -> list[TaskEvent]:
        """Wait until so many events of a kind were told; return these."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.events(kind)) >= count, PATIENCE), (
                f"{kind} was not told: {[(e.kind, e.reason, e.exception) for e in self._events]}"
            )
        return self.events(kind)

    def add(self, func: Callable[..., Any], *args: Any, **given: Any) -> str:
        """Add a task, in a response that ends at once; return its id."""
        return self.add_all((func, args, given))[0]

    def add_all(self, *tasks: tuple[Callable[..., Any], tuple[Any, ...], Any]) -> list[str]:
        """Add tasks in one response; return their ids.

        Args:
            tasks: of each the function, its arguments, and its options.
        """
        queue = BackgroundTasks(runtime=self.runtime, method="POST", path="/orders")
        before = len(self.events("added"))
        for func, args, given in tasks:
            options: Any = {"engine": "it", **given}
            queue.options(**options).add_task(func, *args)
        queue.confirm()
        queue.release()
        return [each.task_id for each in self.events("added")[before:]]

    def send(self, func: Callable[..., Any], *args: Any, **given: Any) -> str:
        """Add a task, and wait until it was sent."""
        before = len(self.events("sent"))
        task_id = self.add(func, *args, **given)
        sent = self.wait_for("sent", before + 1)
        assert sent[-1].task_id == task_id
        return task_id

    def close(self) -> None:
        """End as a process does."""
        assert self.runtime.drain(PATIENCE) == []
        self.runtime.close()
        self.runtime.scheduler.background.stop()
