"""The turns of tasks that hold the interpreter's lock: as many run as there is use for.

That is one, as a rule: two of them are not done sooner than one after the other, and everything
else waits for the lock longer. It is more where those that run leave the lock free, since they
wait for something, which may be one of those that are kept waiting.

This is the state alone, as in `limits`.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Sequence
from itertools import count

from bgadapters.core.control.parked import Parked, Resume
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task

_LITTLE = 0.4  # of the time the lock is held: one more may run
_MUCH = 0.9  # of the time it is held: one less


class Lane:
    """Who runs of those that hold the lock, and who waits for that.

    A batch has one place at most, for the task at its head. It is *granted* the place, and *uses*
    it from the moment when that task is taken. It gives it back as that of a limit.

    Functions take turns. So one that was put here wrongly does not wait for the many tasks of
    another one, and shows soon what it does when it runs alone.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start empty: at first, and in a forked child."""
        self._lock = threading.RLock()
        self._count = count()
        self._width = 1  # how many should run at one time; guarded by _lock
        self._load = 1.0  # the part of the time for which they held the lock lately
        # Those with a place: the task that it was granted for, None once it is used.
        self._members: dict[Batch, Task | None] = {}  # guarded by _lock
        self._functions: dict[Batch, int] = {}  # of the members; guarded by _lock
        self._lines: dict[int, list[Parked[int]]] = {}  # heaps; guarded by _lock
        self._served: dict[int, int] = {}  # when a function had its last turn; guarded by _lock

    @property
    def has_line(self) -> bool:
        """Whether any batch waits."""
        return bool(self._lines)

    @property
    def width(self) -> int:
        """How many may run at one time."""
        return self._width

    def is_granted(self, batch: Batch, task: Task | None) -> bool:
        """Whether a batch has waited for a place for this task, which it does not use yet."""
        return task is not None and self._members.get(batch) is task

    def take(self, batch: Batch, task: Task, function: int, resume: Resume, end: Resume) -> bool:
        """Use a place for the task at the head of a batch, or park the batch; see `Limits.take`.

        Args:
            batch: the batch. Its driver calls this, and `give_back` before.
            task: the task.
            function: the id of its function.
            resume: called when the batch has a place, or needs none any more.
            end: called instead when a drain has given up on the batch.

        Returns:
            False if it is parked.
        """
        with self._lock:
            if batch not in self._members and (self._lines or self._is_full_locked()):
                rank = -batch.priority, next(self._count)
                batch.carrier = parked = Parked(self, batch, task, function, rank, resume, end)
                heapq.heappush(self._lines.setdefault(function, []), parked)
                # As in `Limits.take`: who takes the task from now on finds the batch parked.
                return batch.first() is not task and self.leave_line(parked)
            self._enter_locked(batch, function, None)
            return True

    def give_back(self, batch: Batch) -> Sequence[Resume]:
        """Give back the place that a batch has, if any; return what is to be called."""
        with self._lock:
            if batch not in self._members:
                return ()
            del self._members[batch], self._functions[batch]
            return self._grant_locked()

    def leave_line(self, parked: Parked[int]) -> bool:
        """Have a batch wait no longer; False if it does not wait, as it was granted a place."""
        with self._lock:
            line = self._lines.get(parked.name, [])
            if parked not in line:
                return False
            line.remove(parked)
            heapq.heapify(line)
            if not line:
                del self._lines[parked.name]
            parked.batch.carrier = None
            return True

    def release(self, functions: Iterable[int]) -> Sequence[Resume]:
        """These functions need no place any more; return what is to be called."""
        resumed: list[Resume] = []
        with self._lock:
            for function in functions:
                self._served.pop(function, None)
                for batch in [each for each, its in self._functions.items() if its == function]:
                    del self._members[batch], self._functions[batch]
                for parked in self._lines.pop(function, []):
                    parked.batch.carrier = None
                    resumed.append(parked.resume)
            resumed += self._grant_locked()
        return resumed

    def adjust(self, held: float) -> Sequence[Resume]:
        """Let one more run, or one less from now on; return what is to be called.

        Args:
            held: the part of the time since the last look for which such tasks held the lock.
        """
        with self._lock:
            self._load = (self._load + held) / 2 if self._members else 1.0
            has_begun = all(task is None for task in self._members.values())
            if self._load < _LITTLE and self._lines and has_begun:
                self._width = len(self._members) + 1
                self._load = 1.0  # what the next one does is to be seen first
            elif self._load > _MUCH and self._width > 1:
                self._width -= 1
            return self._grant_locked()

    def _is_full_locked(self) -> bool:
        return len(self._members) >= self._width

    def _enter_locked(self, batch: Batch, function: int, task: Task | None) -> None:
        self._members[batch] = task
        self._functions[batch] = function
        self._served[function] = next(self._count)

    def _grant_locked(self) -> list[Resume]:
        resumed: list[Resume] = []
        while self._lines and not self._is_full_locked():
            parked = self._next_locked()
            self.leave_line(parked)
            self._enter_locked(parked.batch, parked.name, parked.task)
            resumed.append(parked.resume)
        return resumed

    def _next_locked(self) -> Parked[int]:
        """The first of the function whose last turn is the longest ago; priorities go before."""
        firsts = [line[0] for line in self._lines.values()]
        return min(firsts, key=lambda each: (each.rank[0], self._served.get(each.name, -1)))
