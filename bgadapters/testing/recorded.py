"""One task of a test, as its assertions see it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from bgadapters.core.model.event import Kind
from bgadapters.core.model.options import DEFAULT_OPTIONS, Options
from bgadapters.core.model.task import Task
from bgadapters.testing.shown import name_of, shown

Outcome = Kind | Literal["pending", "lost"]


class RecordedTask:
    """A task that was added in a test.

    Attributes:
        func: the callable; of a task object of Django's framework for tasks, its function.
        args: its positional arguments.
        kwargs: its keyword arguments.
        options: those of ``options(...)``, or their defaults.
        path: the path of the request that added it; None outside a request.
        outcome: ``"pending"`` (it waits for its response or, captured, for `Recorder.run_pending`),
            ``"started"``, ``"succeeded"``, ``"failed"``, ``"discarded"`` (its response failed),
            ``"replaced"`` (another one with its key waits),
            ``"abandoned"`` (it was at work for too long) or ``"lost"`` (nothing closed its
            response).
        attempts: how many attempts have been made to run it, or are being made.
        exception: what it raised, or why it was discarded; else None.
    """

    def __init__(self, task: Task, path: str | None) -> None:
        self.func: Callable[..., Any]
        self.args: tuple[Any, ...]
        self.kwargs: dict[str, Any]
        self.func, self.args, self.kwargs = task.unwrap()
        self.options: Options = task.options
        self.path = path
        self.outcome: Outcome = "pending"
        self.attempts = 0
        self.exception: BaseException | None = None
        self._task = task

    @property
    def name(self) -> str:
        """What logs call it."""
        return self._task.name

    @property
    def where(self) -> str:
        """The task and the request that added it."""
        return f"{self.name} of {self.path}" if self.path else self.name

    @property
    def given(self) -> str:
        """Its options as they are written, save for its name and what is the default."""
        fields = zip(Options._fields, self.options, DEFAULT_OPTIONS, strict=True)
        chosen = [f"{name}={value!r}" for name, value, default in fields if value != default]
        return ", ".join(
            each for each in chosen if not each.startswith(("name=", "run_on='always"))
        )

    def __repr__(self) -> str:
        return shown(self.options.name or name_of(self.func), self.args, self.kwargs)
