"""Of the released tasks of one application that wait with the same key, one counts.

This is the state alone: it tells who has lost. Who asks takes the loser from its batch.
"""

from __future__ import annotations

import threading
from enum import Enum
from typing import NamedTuple

from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task


class Keyed(NamedTuple):
    """A task with a key, and where it waits.

    Attributes:
        key: the key.
        task: the task.
        batch: the batch that it is in.
        replaces: whether it takes the place of one that waits already, or leaves that one in its.
    """

    key: str
    task: Task
    batch: Batch
    replaces: bool


class Loss(Enum):
    """Why a task that has waited with a key does not run."""

    REPLACED = "replaced"
    FORGOTTEN = "forgotten"


class Keys:
    """Which task waits with which key.

    What has lost is remembered until it was taken from its batch, and what starts until its
    driver has taken it: what is in a batch otherwise waits.

    A signal handler may come in the middle of each method and use keys as well. So the lock is
    re-entrant, and each change is one call of a dictionary.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start empty: at first, and in a forked child, which runs none of its parent's tasks."""
        self._lock = threading.RLock()
        self._waiting: dict[str, Keyed] = {}  # guarded by _lock
        self._lost: dict[tuple[Batch, Task], Loss] = {}  # guarded by _lock
        self._starting: dict[Batch, Task] = {}  # guarded by _lock

    def enter(self, keyed: Keyed, was_first: bool = False) -> list[Keyed]:
        """A task waits from now on; return those that have lost, which it may be itself.

        Of two tasks that wait, the one that was released later decides.

        Args:
            keyed: the task. If it waits already, has lost or is not in its batch any more, such as
                one that has started meanwhile, nothing changes.
            was_first: whether it was released before those that wait now, and has run since.
        """
        losers: list[Keyed] = []
        with self._lock:
            while self._may_wait_locked(keyed):
                other = self._waiting.setdefault(keyed.key, keyed)
                if other.task is keyed.task:
                    break
                wins = not other.replaces if was_first else keyed.replaces
                loser = self._waiting.pop(keyed.key, None) if wins else keyed
                if loser is not None:  # pragma: no branch  unless a signal handler has come first
                    self._lose_locked(loser, Loss.REPLACED)
                    losers.append(loser)
        return losers

    def claim(self, keyed: Keyed) -> bool:
        """A task is about to be taken by its driver: it waits no longer. False if it did not wait.

        `started` is to be called when it was.
        """
        with self._lock:
            if not self._take_out_locked(keyed):
                return False
            self._starting[keyed.batch] = keyed.task
            return True

    def started(self, batch: Batch) -> None:
        """The driver of a batch has taken what it has claimed."""
        with self._lock:
            self._starting.pop(batch, None)

    def loss(self, keyed: Keyed) -> Loss | None:
        """Why a task has lost that is still in its batch; None if it has not."""
        with self._lock:
            return self._lost.get((keyed.batch, keyed.task))

    def forget(self, key: str) -> Keyed | None:
        """Take the task that waits with a key, which has lost; None if there is none."""
        with self._lock:
            taken = self._waiting.pop(key, None)
            if taken is not None:
                self._lose_locked(taken, Loss.FORGOTTEN)
            return taken

    def leave(self, keyed: Keyed) -> None:
        """A task was taken from its batch and has not started."""
        with self._lock:
            self._take_out_locked(keyed)
            self._lost.pop((keyed.batch, keyed.task), None)

    def __len__(self) -> int:
        """The number of tasks that are remembered."""
        return len(self._waiting) + len(self._lost) + len(self._starting)

    def _may_wait_locked(self, keyed: Keyed) -> bool:
        batch, task = keyed.batch, keyed.task
        if (batch, task) in self._lost or self._starting.get(batch) is task:
            return False
        return task in batch.waiting

    def _lose_locked(self, keyed: Keyed, loss: Loss) -> None:
        self._lost.setdefault((keyed.batch, keyed.task), loss)

    def _take_out_locked(self, keyed: Keyed) -> bool:
        found = self._waiting.pop(keyed.key, None)
        if found is None or found.task is keyed.task:
            return found is not None
        self._waiting.setdefault(keyed.key, found)
        return False
