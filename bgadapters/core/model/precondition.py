"""What tasks wait for besides their response: a transaction's commit, for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from bgadapters.core.model.errors import PreconditionFailedError
from bgadapters.core.model.task import Task


class Precondition:
    """Some tasks of a batch run only if this is fulfilled; the batch waits until it is resolved.

    A released batch that has to wait is *held*: the precondition keeps the call that releases it
    again, and makes that call when it is resolved.
    """

    why_failed = "their precondition failed"
    """Why tasks were discarded, in the words of a log line."""
    spares_always = True
    """Whether tasks with the option ``always`` run though it was not fulfilled."""

    def __init__(self) -> None:
        self._release: Callable[[], object] | None = None
        self._fulfilled: bool | None = None
        self.tasks: list[Task] = []  # guarded by the lock of their batch

    @property
    def fulfilled(self) -> bool | None:
        """Whether it was fulfilled; None while that is not resolved."""
        return self._fulfilled

    def is_up_to_this_thread(self) -> bool:
        """Whether only this thread can resolve it, so that waiting for it here would be in vain."""
        return False

    def reason(self) -> Exception:
        """What events give as the exception of a discarded task."""
        return PreconditionFailedError(self.why_failed)

    def hold(self, release: Callable[[], object]) -> None:
        """Have ``release`` called when this is resolved."""
        self._release = release

    def unhold(self) -> None:
        """Undo `hold`: the batch need not wait."""
        self._release = None

    def resolve(self, fulfilled: bool) -> None:
        """Say whether it was fulfilled, for good. Later calls count for nothing."""
        if self._fulfilled is None:
            self._fulfilled = fulfilled
            release, self._release = self._release, None
            if release is not None:
                release()


class ResponseFailed(Precondition):
    """What tasks wait for that run only if their response fails, or their transaction.

    It is never fulfilled: a failure takes those of its tasks away that it concerns. Whoever is
    left when the batch is released is not needed.
    """

    why_failed = "the response has succeeded"

    @property
    def fulfilled(self) -> bool:
        """False."""
        return False


def must_wait(preconditions: Sequence[Precondition], release: Callable[[], object]) -> bool:
    """Whether one of those of a batch is not resolved; it then makes the call ``release``."""
    for each in reversed(preconditions):  # the last one is the last to resolve, as a rule
        each.hold(release)  # before it is asked: another thread may be resolving it
        if each.fulfilled is None:
            return True
        each.unhold()
    return False


def for_failures(preconditions: Iterable[Precondition]) -> list[ResponseFailed]:
    """Return what tasks wait for that are for a response that fails."""
    return [each for each in preconditions if isinstance(each, ResponseFailed)]


def failure_among(preconditions: Iterable[Precondition]) -> ResponseFailed:
    """Return what a further task waits for that is for a response that fails."""
    for each in for_failures(preconditions):
        if each.tasks:
            return each
    return ResponseFailed()


def without_errands(tasks: list[Task], preconditions: Iterable[Precondition]) -> list[Task]:
    """Of tasks that something has kept from running, return those that are to be discarded.

    The others, which were added for this very case, are to run now.
    """
    errands = {task for task in tasks if task.options.run_on == "error"}
    if not errands:
        return tasks
    for each in for_failures(preconditions):
        each.tasks = [task for task in each.tasks if task not in errands]
    return [task for task in tasks if task not in errands]
