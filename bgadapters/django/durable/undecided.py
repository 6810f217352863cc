"""Tasks that were written in transactions of which nobody knows yet whether they commit.

A task may be discarded while its transaction is open. Nobody else sees its row then, so that it
cannot be deleted from outside; and a commit would leave it there, to be run after all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from weakref import WeakValueDictionary

from django.db import transaction


class Commit:
    """The commit of a transaction, which may never come: Django then drops this.

    Args:
        delete: deletes tasks, on the connection that has committed.
    """

    def __init__(self, delete: Callable[[Sequence[str]], object]) -> None:
        self._delete = delete
        self._lock = threading.Lock()
        self._discarded: list[str] = []  # guarded by _lock
        self._has_come = False  # guarded by _lock
        self.__qualname__ = "bgadapters.django.durable.undecided"  # which Django logs

    def __call__(self) -> None:
        """It has come: delete what was discarded meanwhile."""
        with self._lock:
            self._has_come = True
            discarded = self._discarded
        if discarded:
            self._delete(discarded)

    def discard(self, task_id: str) -> bool:
        """Have a task deleted when it comes; False if it has come."""
        with self._lock:
            if not self._has_come:
                self._discarded.append(task_id)
            return not self._has_come


class Undecided:
    """All of them, of one store.

    Args:
        alias: that of its database.
        delete: deletes tasks, on the connection of the thread that calls.
    """

    def __init__(self, alias: str, delete: Callable[[Sequence[str]], object]) -> None:
        self._alias = alias
        self._delete = delete
        self._commits: WeakValueDictionary[str, Commit] = WeakValueDictionary()

    def note(self, task_ids: Sequence[str]) -> None:
        """Tasks were written in the transaction that is open here."""
        commit = Commit(self._delete)
        for each in task_ids:
            self._commits[each] = commit
        transaction.on_commit(commit, using=self._alias, robust=True)

    def discard(self, task_ids: Sequence[str]) -> list[str]:
        """Return those of some tasks that can be deleted now: the others will be by their commits.

        A statement that tried to delete these would wait for their transactions in MariaDB.
        """
        commits = {each: self._commits.get(each) for each in task_ids}
        return [each for each, commit in commits.items() if not (commit and commit.discard(each))]
