"""Which functions hold the interpreter's lock for most of the time that they run.

The arithmetic alone: it is given what `drivers.lock_watch` has seen. For each function there are
three sums of seconds, of its tasks between two looks. *Held*: it burned while others had to wait
for the lock. *Free*: it burned while nobody had to, or while the lock was seen to be another
thread's. *Idle*: it waited for something else than the lock. Its share is what it held, of all.

A task has to be there at two looks to count. So one that is over sooner is never blamed.
"""

from __future__ import annotations

from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

from bgadapters.core.drivers.lock_watch import BURNS, Look, Worker
from bgadapters.core.model.task import Task, TaskWrapper

BLAMED = 0.6  # a share above which a function is a holder
CLEARED = 0.3  # a share below which a holder is none any more
_ENOUGH = 0.015  # seconds held before a function is blamed
_TO_CLEAR = 0.15
"""Seconds seen of a holder before it is cleared. In each it may have waited for a processor, while
the lock was to be had since it had just given it to a request."""
_WINDOW = 1.0  # seconds of sums; of what was seen before, the less counts the longer ago it was
_FREE_COUNTS = 8.0
"""What it counts that one burns without the lock: the thread that looks is in its way itself, so
that it sees this more seldom than it is so."""
_LUCK = 0.25
"""What it counts that the lock was to be had at once while several burned: it may be by chance, as
one of them had just given it to another one, or got no processor."""
_MOST_SCALED = 3.0
"""How far what was burned is scaled up to the time that has passed, where others have to wait:
whoever holds the lock may itself wait for a processor."""
_SLACK = 1.1  # of the time between two looks, what can be burned with one lock
_A_SLICE = 0.01  # seconds; one of those who wait for the lock has it for half of that
_FUNCTIONS = 256  # that are remembered, at most
_WRAPPERS = 20  # around one function that are looked through, at most


class _Sums:
    """What was seen of one function."""

    __slots__ = ("free", "function", "held", "idle", "is_holder")

    def __init__(self, function: object) -> None:
        self.function = function  # kept, so that its id is nobody else's
        self.held = self.free = self.idle = 0.0
        self.is_holder = False

    @property
    def total(self) -> float:
        return self.held + self.free + self.idle

    @property
    def share(self) -> float:
        return self.held / self.total if self.total else 0.0

    def forget(self, total: float) -> None:
        """Keep the share, as if no more than ``total`` had been seen."""
        if self.total > total:
            factor = total / self.total
            self.held, self.free, self.idle = (
                each * factor for each in (self.held, self.free, self.idle)
            )


class Holders:
    """The functions of one application that hold the lock, as far as is known.

    They go by the id of what `function_of` returns: the hash of an object may be code of the
    application. One thread calls `note`; `is_one` may be asked in any.
    """

    def __init__(self) -> None:
        self._sums: dict[int, _Sums] = {}  # by the id of the function; the latest seen is the last
        self._holders: frozenset[int] = frozenset()

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._holders)

    def __len__(self) -> int:
        """The number of functions that are remembered."""
        return len(self._sums)

    def is_one(self, key: int) -> bool:
        """Whether a function, given by its id, is known to hold the lock."""
        return key in self._holders

    def share(self, function: object) -> float:
        """The part of its time for which a function holds the lock; 0 if nothing is known."""
        sums = self._sums.get(id(function))
        return 0.0 if sums is None else sums.share

    def note(self, look: Look) -> list[int]:
        """Take a look into account; return the ids of functions that are holders no longer."""
        needed = look.needed
        hides = self._hides_holders(look)
        cleared = []
        for worker in look.workers:
            if worker.is_same:
                sums = self._of(function_of(worker.task))
                if sums.is_holder and hides and (not look.is_contested or worker.burned < BURNS):
                    continue
                _count(sums, worker, look, needed)
                sums.forget(_WINDOW)
                if self._judge(sums):
                    cleared.append(id(sums.function))
        while len(self._sums) > _FUNCTIONS:
            sums = self._sums.pop(next(iter(self._sums)))
            if sums.is_holder:
                self._holders -= {id(sums.function)}
                cleared.append(id(sums.function))
        return cleared

    def _hides_holders(self, look: Look) -> bool:
        """Whether holders may have been in each other's way, so that they seem to wait.

        Those that were at work when their function was blamed still run side by side.
        """
        if not self._holders:
            return False
        holding = [each for each in look.workers if self.is_one(id(function_of(each.task)))]
        burn = any(each.burned >= BURNS and not each.is_free for each in holding)
        return burn and len(holding) > 1

    def _of(self, function: object) -> _Sums:
        sums = self._sums.pop(id(function), None) or _Sums(function)
        self._sums[id(function)] = sums
        return sums

    def _judge(self, sums: _Sums) -> bool:
        """Blame or clear a function; tell whether it was cleared."""
        if not sums.is_holder:
            if sums.held >= _ENOUGH and sums.share >= BLAMED:
                sums.is_holder = True
                sums.held = sums.free = sums.idle = 0.0  # where it runs alone more can be seen
                self._holders |= {id(sums.function)}
        elif sums.total >= _TO_CLEAR and sums.share < CLEARED:
            sums.is_holder = False
            sums.held, sums.free = 0.0, _WINDOW  # it ran alone: nothing is known as well
            self._holders -= {id(sums.function)}
            return True
        return False


def _count(sums: _Sums, worker: Worker, look: Look, needed: float) -> None:
    burned = min(worker.burned, look.seconds)
    if not look.is_contested:
        is_alone = all(other is worker or other.burned < BURNS for other in look.workers)
        weight = 1.0 if is_alone else _LUCK
        sums.free += weight * burned
        sums.idle += weight * (look.seconds - burned)
    elif worker.is_free:
        sums.free += _FREE_COUNTS * burned
    elif burned < BURNS:
        # It waits for the lock or for something else. Those who wait for the lock have it in turn.
        if worker.waited > _A_SLICE * (1 + len(look.workers)):
            sums.idle += look.seconds
    elif needed <= _SLACK * look.seconds:
        sums.held += burned * scale(look)
    # Else some of them burned without the lock, and nobody knows which.


def scale(look: Look) -> float:
    """What to multiply with that was burned, to have the time for which the lock was held."""
    burned = look.needed + look.elsewhere
    if not (look.is_contested and burned):
        return 1.0
    return max(1.0, min(_MOST_SCALED, look.seconds / burned))


def function_of(task: Task) -> object:
    """Return what all tasks that run the same code have in common. Calls none of it.

    That is the code of a function, behind partials, methods and the wrappers that
    `functools.wraps` has marked; of an object that can be called it is the type.
    """
    func: Any = task.func
    if isinstance(func, TaskWrapper):
        try:
            func = func.unwrap(task).func
        except BaseException:  # it looks at an object of the application
            return type(func)
    for _ in range(_WRAPPERS):
        inner = _wrapped_by(func)
        if inner is None:
            break
        func = inner
    kind = type(func)
    if kind is FunctionType:
        return func.__code__
    if kind is BuiltinFunctionType and type(func.__self__) is ModuleType:
        return func
    return kind


def _wrapped_by(func: Any) -> Any:
    kind: type[Any] = type(func)
    if kind is partial:
        return func.func
    if kind is MethodType:
        return func.__func__
    return func.__dict__.get("__wrapped__") if kind is FunctionType else None
