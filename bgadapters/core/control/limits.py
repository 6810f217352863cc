"""At most so many tasks of one name run at a time: of a limit, or of an engine with so many places.

This is the state alone: it tells whom to let go on, and whoever asks does that.
"""

from __future__ import annotations

import heapq
import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import count

from bgadapters.core.control.parked import Parked, Resume
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task


class Limits:
    """The places of each name, who has one, and who waits for one.

    A batch has one place at most, for the task at its head. It is *granted* the place, and *uses*
    it from the moment when that task is taken. It gives it back when it is asked for its next
    task, or when it finishes: so however a task ends, its place is given back.

    A signal handler may come in the middle of each method, so that the lock is re-entrant.

    Args:
        numbers: how many places each name has.
    """

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self._numbers = numbers
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start with all places free: at first, and in a forked child."""
        self._lock = threading.RLock()
        self._count = count()
        self._name_of: dict[Batch, str] = {}  # those with a place; guarded by _lock
        # The same, by name: the task that the place was granted for, None once it is used.
        self._members: defaultdict[str, dict[Batch, Task | None]]  # guarded by _lock
        self._members = defaultdict(dict)
        self._lines: defaultdict[str, list[Parked[str]]]  # heaps; guarded by _lock
        self._lines = defaultdict(list)

    def is_granted(self, batch: Batch, task: Task | None) -> bool:
        """Whether a batch has waited for a place for this task, which it does not use yet."""
        with self._lock:
            name = self._name_of.get(batch)
            return task is not None and name is not None and self._members[name][batch] is task

    def take(self, batch: Batch, task: Task, name: str, resume: Resume, end: Resume) -> bool:
        """Use a place for the task at the head of a batch, or *park* the batch.

        What is parked belongs to nobody who runs batches, until ``resume`` is called.

        Args:
            batch: the batch. Its driver calls this, and `give_back` before.
            task: the task.
            name: that of the limit.
            resume: called when the batch has a place, or needs none any more.
            end: called instead when a drain has given up on the batch.

        Returns:
            False if it is parked.
        """
        with self._lock:
            members, line = self._members[name], self._lines[name]
            if batch not in members and (line or len(members) >= self._numbers[name]):
                rank = -batch.priority, next(self._count)
                batch.carrier = parked = Parked(self, batch, task, name, rank, resume, end)
                heapq.heappush(line, parked)
                # A drain, or another task with its key, may have taken the task meanwhile. Who
                # does so from now on finds the batch parked.
                return batch.first() is not task and self.leave_line(parked)
            self._name_of[batch] = name
            members[batch] = None
            return True

    def give_back(self, batch: Batch, wanted: str | None = None) -> Sequence[Resume]:
        """Give back the place that a batch has used or does not need; return what is to be called.

        Args:
            batch: the batch; none of its tasks runs.
            wanted: the limit of the task at its head: a place that was granted for it is kept.
        """
        with self._lock:
            name = self._name_of.get(batch)
            if name is None or (name == wanted and self._members[name][batch] is not None):
                return ()
            del self._name_of[batch], self._members[name][batch]
            return self._grant_locked(name)

    def leave_line(self, parked: Parked[str]) -> bool:
        """Have a batch wait no longer; False if it does not wait, as it was granted a place."""
        with self._lock:
            line = self._lines[parked.name]
            if parked not in line:
                return False
            line.remove(parked)
            heapq.heapify(line)
            parked.batch.carrier = None
            return True

    def _grant_locked(self, name: str) -> Sequence[Resume]:
        line, members = self._lines[name], self._members[name]
        if not line or len(members) >= self._numbers[name]:
            return ()
        parked = heapq.heappop(line)
        parked.batch.carrier = None
        self._name_of[parked.batch] = name
        members[parked.batch] = parked.task
        return (parked.resume,)
