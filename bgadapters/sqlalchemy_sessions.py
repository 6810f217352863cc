"""Transactions of sessions of SQLAlchemy, and who waits for their ends.

A session tells by its published events what becomes of them, an `AsyncSession` like a `Session`.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from threading import get_ident
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction, scoped_session

from bgadapters.adapters import Batch, Precondition, log

Ended = Callable[[bool], object]
"""Is called when a transaction is over, with whether it has committed."""

Write = Callable[[Session], object]
"""Is called with the session before a transaction commits, and may use its connection."""

_Of = tuple[SessionTransaction, Write]
"""Something to be written, and the transaction to which that belongs."""

_INFO = "bgadapters.commits"  # the key in the session's own dictionary


def session_of(given: Any) -> Session:
    """Return the session that is meant by a session of whatever kind.

    Raises:
        TypeError: it is none.
    """
    found = given  # the asynchronous kinds are not imported: that fails without greenlet
    if hasattr(found, "registry"):  # it is a scoped one
        found = found()
    found = getattr(found, "sync_session", found)
    if isinstance(found, Session):
        return found
    raise TypeError(
        f"options(session=...) accepts a Session, an AsyncSession or one of their scoped kinds, "
        f"not {given!r}"
    )


class SessionCommit(Precondition):
    """Is fulfilled when the transaction of a session has committed.

    Args:
        transaction: that.
        thread: the one that has begun it, if only that can end it; None if any can.
    """

    why_failed = "their transaction was rolled back"

    def __init__(self, transaction: SessionTransaction, thread: int | None) -> None:
        super().__init__()
        self._transaction = weakref.ref(transaction)
        self._thread = thread

    def is_of(self, transaction: SessionTransaction) -> bool:
        """Whether it waits for this transaction, which is open."""
        return self._fulfilled is None and self._transaction() is transaction

    def is_up_to_this_thread(self) -> bool:
        """Whether this is the thread of the transaction."""
        return get_ident() == self._thread


class Commits:
    """What waits for the transactions of one session, which keeps this."""

    def __init__(self, session: Session) -> None:
        self._unwritten: dict[SessionTransaction, list[Write]] = {}
        self._written: dict[SessionTransaction, list[_Of]] = {}  # each in the one that it is by
        self._of: dict[SessionTransaction, list[Ended]] = {}
        self._committed: SessionTransaction | None = None
        self._all: list[Ended] = []  # for when the session is gone, and so keeps none alive
        event.listen(session, "before_commit", self._before_commit)
        event.listen(session, "after_commit", self._after_commit)
        event.listen(session, "after_transaction_end", self._after_end)
        weakref.finalize(session, _tell, self._all, False)

    @classmethod
    def of(cls, session: Session) -> Commits:
        """Return those of a session."""
        found = session.info.get(_INFO)
        if not isinstance(found, cls):
            found = session.info[_INFO] = cls(session)
        return found

    def call_at_end(self, transaction: SessionTransaction, ended: Ended) -> None:
        """Have something called when a transaction is over, with whether it has committed."""
        self._of.setdefault(transaction, []).append(ended)
        self._all.append(ended)

    def write_with(self, transaction: SessionTransaction, write: Write) -> None:
        """Have something written at the end of a transaction, as a part of it."""
        self._unwritten.setdefault(transaction, []).append(write)

    def _before_commit(self, session: Session) -> None:
        """A COMMIT comes, or the RELEASE of a savepoint: write what waits for one.

        Which of the two it is nobody tells, nor whether it is that of a transaction around an open
        savepoint. So all is written, and what is not the savepoint's own is remembered.
        """
        here = transaction_of(session)
        if here is None or not self._unwritten:
            return
        for each in reversed(list(_with_parents(here))):
            waiting = self._unwritten.get(each, [])
            while waiting:  # what is not written is tried again, so that no commit leaves it out
                waiting[0](session)
                self._written.setdefault(here, []).append((each, waiting.pop(0)))
            self._unwritten.pop(each, None)

    def _note_written(self, transaction: SessionTransaction, has_committed: bool) -> None:
        """A transaction is over: what it has written of those around it is theirs, or undone."""
        self._unwritten.pop(transaction, None)
        of_others = [one for one in self._written.pop(transaction, []) if one[0] is not transaction]
        if has_committed and transaction.parent is not None:
            self._written.setdefault(transaction.parent, []).extend(of_others)
        elif of_others:
            for each, write in reversed(of_others):
                self._unwritten.setdefault(each, []).insert(0, write)

    def _after_commit(self, session: Session) -> None:
        """A COMMIT was answered, or the RELEASE of a savepoint."""
        self._committed = transaction_of(session)

    def _after_end(self, _: Session, transaction: SessionTransaction) -> None:
        """A transaction is over, also one that was closed without a word."""
        has_committed = transaction is self._committed
        self._note_written(transaction, has_committed)
        if has_committed:
            self._committed = None
        waiting = self._of.pop(transaction, [])
        if has_committed and transaction.parent is not None:  # it is a part of that one now
            self._of.setdefault(transaction.parent, []).extend(waiting)
            return
        for each in waiting:
            self._all.remove(each)
        _tell(waiting, has_committed)


def _with_parents(transaction: SessionTransaction) -> Iterator[SessionTransaction]:
    """Yield a transaction, and those around it."""
    found: SessionTransaction | None = transaction
    while found is not None:
        yield found
        found = found.parent


def transaction_of(session: Session) -> SessionTransaction | None:
    """Return the innermost transaction or savepoint that is open in a session; None for none."""
    return session.get_nested_transaction() or session.get_transaction()


def begun(session: Session) -> SessionTransaction:
    """Return the same; a session that has none begins one, as it does when an object is added.

    Raises:
        TypeError: the session begins none by itself.
    """
    transaction = transaction_of(session)
    if transaction is not None:
        return transaction
    if not session.autobegin:
        raise TypeError(
            "options(session=...): the session has no transaction, and begins none by itself "
            "(autobegin=False). Begin one before the task is added: session.begin()"
        )
    return session.begin()


def commit_of(batch: Batch, given: Any, session: Session) -> SessionCommit:
    """Return what tasks of a batch wait for that are added here.

    Args:
        batch: the batch: that of its last task, if that was added here too.
        given: the session, as it was given.
        session: the session that is meant.

    Raises:
        TypeError: as `begun`.
    """
    transaction = begun(session)
    for each in batch.preconditions:
        if isinstance(each, SessionCommit) and each.is_of(transaction):
            return each
    is_async = not isinstance(given, (Session, scoped_session))
    commit = SessionCommit(transaction, None if is_async else get_ident())
    Commits.of(session).call_at_end(transaction, commit.resolve)
    return commit


def _tell(waiting: list[Ended], has_committed: bool) -> None:
    """Tell of an end. It does not raise, in the middle of the session's own work."""
    for each in tuple(waiting):
        try:
            each(has_committed)
        except Exception as exc:
            log(logging.ERROR, "Releasing tasks that waited for a commit failed", exc_info=exc)
