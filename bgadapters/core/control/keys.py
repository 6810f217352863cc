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
    ENDED = "ended"
    """For another reason than its key, of which somebody else tells."""


class Keys:
    """Which task waits with which key.

    What has lost is remembered until its batch has finished: a driver may just be looking at it.

    A signal handler may come in the middle of each method and use keys as well. So the lock is
    re-entrant, and each change is one call of a dictionary.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start empty: at first, and in a forked child, which runs none of its parent's tasks."""
        self._lock = threading.RLock()
        self._waiting: dict[str, Keyed] = {}  # guarded by _lock
        self._lost: dict[Batch, dict[Task, Loss]] = {}  # guarded by _lock

    def enter(self, keyed: Keyed, was_first: bool = False) -> list[Keyed]:
        """A task waits from now on; return those that have lost, which it may be itself.

        Of two tasks that wait, the one that was released later decides.

        Args:
            keyed: the task. If it waits or has lost already, nothing changes.
            was_first: whether it was released before those that wait now, and has run since.
        """
        losers: list[Keyed] = []
        with self._lock:
            while self._loss_locked(keyed) is None:
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
        """A task is about to start: it waits no longer. False if it did not wait."""
        with self._lock:
            return self._take_out_locked(keyed)

    def loss(self, keyed: Keyed) -> Loss | None:
        """Why a task has lost; None if it has not."""
        with self._lock:
            return self._loss_locked(keyed)

    def forget(self, key: str) -> Keyed | None:
        """Take the task that waits with a key, which has lost; None if there is none."""
        with self._lock:
            taken = self._waiting.pop(key, None)
            if taken is not None:
                self._lose_locked(taken, Loss.FORGOTTEN)
            return taken

    def lose(self, keyed: Keyed) -> None:
        """A task has ended without having started, for another reason than its key."""
        with self._lock:
            self._take_out_locked(keyed)
            self._lose_locked(keyed, Loss.ENDED)

    def leave(self, batch: Batch) -> None:
        """Forget what has lost in a batch, if none of it can be there any more."""
        with self._lock:
            if not batch.waiting:
                self._lost.pop(batch, None)

    def __len__(self) -> int:
        """The number of tasks that are remembered."""
        return len(self._waiting) + sum(map(len, self._lost.values()))

    def _loss_locked(self, keyed: Keyed) -> Loss | None:
        return self._lost.get(keyed.batch, {}).get(keyed.task)

    def _lose_locked(self, keyed: Keyed, loss: Loss) -> None:
        self._lost.setdefault(keyed.batch, {}).setdefault(keyed.task, loss)

    def _take_out_locked(self, keyed: Keyed) -> bool:
        found = self._waiting.pop(keyed.key, None)
        if found is None or found.task is keyed.task:
            return found is not None
        self._waiting.setdefault(keyed.key, found)
        return False
