"""What keeps durable tasks: the protocol of a store.

Whoever writes a store need know nothing else. One thread of a process calls all methods but those
about somebody's transaction and those for looking at tasks; no event loop runs in it, and under
gevent it is no greenlet. So a store may block there. If the store says `Store.is_for_any_thread`,
other threads call `write` as well, while no other one uses the store; none of them is a greenlet
or the main thread. A connection must not be used across a fork: a child calls `forget_connections`
on the store that it has inherited, which is then as one that was never opened.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from bgadapters.core.model.batch import Batch
from bgadapters.core.model.precondition import Precondition

State = Literal["waiting", "failed"]
"""Whether a task is to run, or was given up and is kept to be looked at."""


class Row(NamedTuple):
    """A task, as a store keeps it.

    Attributes:
        id: that of the task, the same in all attempts.
        queue_id: that of its queue: the tasks of one response have it in common.
        position: its place among them: that of one which was added later is higher.
        added: when it was added, as `time.time` tells it.
        payload: JSON: what to call with what.
        name: what logs call it.
        key: the option ``key``.
        priority: the option ``priority``.
        due: the time before which it does not start, as `time.time` tells it; None for none.
        attempt: the number of the attempt that comes next, from 1.
        crashes: how many processes have ended while they ran it.
        is_recovered: whether a process that had it has ended.
        state: ``"waiting"``, also while it runs, or ``"failed"``.
        failure: JSON: why it has failed; None if it has not.
        ended: when it has failed, as `time.time` tells it; None if it has not.
    """

    id: str
    queue_id: str
    position: int
    added: float
    payload: str
    name: str
    key: str | None = None
    priority: int = 0
    due: float | None = None
    attempt: int = 1
    crashes: int = 0
    is_recovered: bool = False
    state: State = "waiting"
    failure: str | None = None
    ended: float | None = None


class Change(NamedTuple):
    """What has become of a task of this owner.

    Attributes:
        id: that of the task.
        kind: ``"delete"``: it has ended and need not be kept. ``"again"``: it waits for another
            attempt. ``"fail"``: it has failed for good. ``"free"``: it has not run, and this owner
            will not run it. ``"claim"``: its response is complete, and it has a key: of the tasks
            of that key that were claimed, wait and have not begun, one stays, and the others are
            deleted, whoever has them.
        attempt: for ``"again"`` and ``"fail"``, the number of the attempt: that which comes next,
            or the last one.
        due: for ``"again"``, the time of that attempt, as `time.time` tells it.
        failure: for ``"fail"``, JSON: why.
        keeps: for ``"claim"``, whether the one that was claimed before is to stay, and not this.
    """

    id: str
    kind: Literal["delete", "again", "fail", "free", "claim"]
    attempt: int = 1
    due: float | None = None
    failure: str | None = None
    keeps: bool = False


class Store(ABC):
    """Keeps durable tasks. See the module for threads and forks.

    Any method may raise `StoreUnavailableError`, from whatever the database has raised: the store
    is away, full, locked for too long. Then nothing of the call counts.

    Attributes:
        is_for_any_thread: whether any thread may call `write`, while no other one uses the store:
            then one that waits for its tasks need not wait for another thread. Default: no.
    """

    is_for_any_thread = False

    @abstractmethod
    def open(self, owner: str) -> None:
        """Connect, make the tables if they are not there, and begin to live as an owner.

        Args:
            owner: an id that nothing else has.

        Raises:
            SettingsError: the store was made by a newer version, or cannot be what it is to be.
        """

    @abstractmethod
    def close(self) -> None:
        """Stop living as an owner: what it still has is free at once. Close the connections."""

    @abstractmethod
    def write(self, rows: Sequence[Row], changes: Sequence[Change]) -> Sequence[str]:
        """Keep new tasks, which this owner has; and change others, in one transaction.

        When it returns, the tasks survive a loss of power. Changes without tasks need not.

        Returns:
            The ids of changes that did not count, as the tasks are another owner's now.
        """

    @abstractmethod
    def begin(self, task_id: str) -> bool:
        """Note that a task begins which another process had, or that has a key.

        That survives the end of this process, though perhaps not a loss of power.

        Returns:
            False if it is not this owner's any more, or was deleted in favour of another one.
        """

    @abstractmethod
    def take_over(self, limit: int) -> list[Row]:
        """Take tasks that are due and that no living owner has, for this owner.

        Of those that had begun (`begin`) it counts a crash, if their owner did not close.

        Args:
            limit: how many, at most.

        Returns:
            The tasks as they are now: those of the queues that were begun first come first, those
            of one queue in their order, and of one queue all that fit.
        """

    def forget_connections(self) -> None:  # noqa: B027  not every store has some
        """In a forked child: let go of the parent's connections, in no way that it would notice.

        Afterwards this store can be opened, as another owner.
        """

    # In somebody's own transaction, in whatever thread that is.

    def shares_transaction(self, session: Any) -> bool:
        """Whether `insert_here` writes in a transaction that is open here.

        Args:
            session: the option ``session``; None if none was given.

        Raises:
            TypeError: this store knows no such session.
        """
        if session is not None:
            raise TypeError(
                f"options(session=...): {type(self).__name__} writes in nobody's transaction. "
                "Leave it away, or take a store of the database that the session is of"
            )
        return False

    def insert_here(self, rows: Sequence[Row], session: Any) -> None:
        """Keep new tasks, which this owner has, in the transaction that is open here."""
        raise NotImplementedError

    def precondition(self, batch: Batch, session: Any) -> Precondition | None:  # noqa: ARG002
        """Return what a task waits for that is written in somebody's transaction; None for nothing.

        Args:
            batch: that of the task. What it returns is new, or one of this batch's own.
            session: the option ``session``; None if none was given.
        """
        return None

    # To look at tasks and to act on them, from any thread, whether or not it is open as an owner.

    @abstractmethod
    def count(self) -> Mapping[State, int]:
        """Return how many tasks there are in each state."""

    @abstractmethod
    def find(self, state: State | None = None, limit: int = 100, offset: int = 0) -> list[Row]:
        """Return tasks, the oldest first. Default: of both states."""

    @abstractmethod
    def get(self, task_id: str) -> Row | None:
        """Return a task; None if it is not there."""

    @abstractmethod
    def retry(self, task_ids: Sequence[str]) -> int:
        """Have failed tasks run again, with their attempts and crashes forgotten.

        Returns:
            How many of them there were.
        """

    @abstractmethod
    def discard(self, task_ids: Sequence[str]) -> int:
        """Delete tasks that have failed or that no living owner has; return how many."""

    @abstractmethod
    def purge(self, before: float) -> int:
        """Delete what has failed before a time of `time.time`; return how many."""


def writes_in_transactions(store: Store) -> bool:
    """Whether a store may write in somebody's transaction, or have tasks wait for one."""
    kind = type(store)
    return (
        kind.shares_transaction is not Store.shares_transaction
        or kind.precondition is not Store.precondition
    )
