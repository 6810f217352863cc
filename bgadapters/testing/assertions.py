"""What a test may ask of its tasks, with messages that show what was added instead."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

from bgadapters.core.model.task import function_of
from bgadapters.testing.recorded import RecordedTask
from bgadapters.testing.shown import name_of, shown


class _Call(NamedTuple):
    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def is_like(self, task: RecordedTask) -> bool:
        # The expected side first, so that unittest.mock.ANY and the like are asked.
        if function_of(self.func) != task.func:
            return False
        if len(self.args) == 1 and self.args[0] is ...:
            given = task.kwargs
            return all(name in given and self.kwargs[name] == given[name] for name in self.kwargs)
        return self.args == task.args and self.kwargs == task.kwargs

    def __str__(self) -> str:
        return shown(name_of(function_of(self.func)), self.args, self.kwargs)


class Assertions:
    """Compare calls as `unittest.mock` does: function, positional and keyword arguments.

    Arguments may be matchers such as `unittest.mock.ANY`. A single ``...`` stands for all of them,
    save for keyword arguments that are given beside it.
    """

    @property
    @abstractmethod
    def tasks(self) -> list[RecordedTask]:
        """Every task that was added so far, in the order added."""

    def assert_added(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> RecordedTask:
        """Assert that this call was added, once or more.

        Returns:
            The last task that matches.

        Raises:
            AssertionError: it was not.
        """
        __tracebackhide__ = True
        call = _Call(func, args, kwargs)
        found = self._like(call)
        if not found:
            raise AssertionError(f"{call} was not added. {self._what_was()}")
        return found[-1]

    def assert_added_once(
        self, func: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> RecordedTask:
        """Assert that this call was added, and only once; calls of other functions do not count.

        Returns:
            The task.

        Raises:
            AssertionError: it was not added, or more than once.
        """
        __tracebackhide__ = True
        call = _Call(func, args, kwargs)
        found = self._like(call)
        if len(found) != 1:
            times = f"{len(found)} times" if found else "not"
            raise AssertionError(f"{call} was {times} added, expected once. {self._what_was()}")
        return found[0]

    def assert_not_added(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Assert that this call was not added; without arguments, no call of the function.

        Raises:
            AssertionError: it was.
        """
        __tracebackhide__ = True
        call = _Call(func, args if args or kwargs else (...,), kwargs)
        if self._like(call):
            raise AssertionError(f"{call} was added. {self._what_was()}")

    def assert_none(self) -> None:
        """Assert that no task was added.

        Raises:
            AssertionError: one was.
        """
        __tracebackhide__ = True
        if self.tasks:
            raise AssertionError(f"Expected no background task. {self._what_was()}")

    def _like(self, call: _Call) -> list[RecordedTask]:
        return [task for task in self.tasks if call.is_like(task)]

    def _what_was(self) -> str:
        tasks = self.tasks
        if not tasks:
            return "No task was added."
        lines = [f"  {number}. {_described(task)}" for number, task in enumerate(tasks, 1)]
        return "\n".join(["Added were:", *lines])


def _described(task: RecordedTask) -> str:
    return f"{task!r}  [{', '.join(filter(None, (task.path, task.outcome, task.given)))}]"
