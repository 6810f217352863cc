"""What a test may ask of its tasks, with messages that show what was added instead."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from bgadapters.core.task import callable_name, function_of

if TYPE_CHECKING:
    from bgadapters.testing.recorder import RecordedTask


def shown(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """A call as it would be written."""
    given = ["..." if arg is ... else _repr(arg) for arg in args]
    given += [f"{name}={_repr(value)}" for name, value in kwargs.items()]
    return f"{name}({', '.join(given)})"


def name_of(func: Any) -> str:
    """What has a name is called by it; a mock or a matcher shows more of itself than its type."""
    shows_itself = any("__repr__" in vars(kind) for kind in type(func).__mro__[:-1])
    is_named = isinstance(func, partial) or hasattr(func, "__qualname__")
    return _repr(func) if shows_itself and not is_named else callable_name(func)


def _repr(value: Any) -> str:
    try:
        return repr(value)
    except Exception as exc:  # the message is about something else
        return f"<{type(value).__name__} object, repr() of which raised {type(exc).__name__}>"


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
        lines = [
            f"  {number}. {task!r}  [{task.path + ', ' if task.path else ''}{task.outcome}]"
            for number, task in enumerate(tasks, 1)
        ]
        return "\n".join(["Added were:", *lines])
