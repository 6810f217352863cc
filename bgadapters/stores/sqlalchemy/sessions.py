"""Tasks that are kept in the transaction of a session, and run only if that commits.

A row is added to the session like any other object, so that the session's own flush writes it:
no I/O is done when the task is added, and an `AsyncSession` is served like a `Session`. What
becomes of the transaction the session tells by its published events.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Any

from sqlalchemy import Connection, Engine, Table, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction, registry, scoped_session

from bgadapters.adapters import Batch, Precondition, log
from bgadapters.stores.sqlalchemy.engines import is_same_database

Ended = Callable[[bool], object]
"""Is called when a transaction is over, with whether it has committed."""

_INFO = "bgadapters.commits"  # the key in the session's own dictionary


class SessionRows:
    """Puts rows into sessions.

    Args:
        tasks: the table that they are for.
        engine: that of the store.
    """

    def __init__(self, tasks: Table, engine: Engine) -> None:
        self._engine = engine
        self._kind = type("StoredTask", (), {})
        registry(metadata=tasks.metadata).map_imperatively(self._kind, tasks)

    def check(self, given: Any) -> Session:
        """Return the session that is meant.

        Raises:
            TypeError: it is none, or one of another database.
        """
        session = _session_of(given)
        try:
            bind = session.get_bind(self._kind)
        except SQLAlchemyError as exc:
            raise TypeError(
                f"options(session=...): the session does not know in which database to write "
                f"tasks ({exc}). Give it a bind for all tables, as Session(engine) has"
            ) from exc
        url = (bind.engine if isinstance(bind, Connection) else bind).url
        if not is_same_database(url, self._engine.url):
            raise TypeError(
                f"options(session=...): the session is of {url.render_as_string()}, the store of "
                f"{self._engine.url.render_as_string()}: what is written there is not in the "
                "session's transaction. Leave session= away, or take a store of that database"
            )
        return session

    def add(self, session: Session, values: Iterable[dict[str, Any]]) -> None:
        """Have rows written by the session's next flush."""
        for each in values:
            row = self._kind()
            for name, value in each.items():
                setattr(row, name, value)
            session.add(row)


def _session_of(given: Any) -> Session:
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
        self._of: dict[SessionTransaction, list[Ended]] = {}
        self._committed: SessionTransaction | None = None
        self._all: list[Ended] = []  # for when the session is gone, and so keeps none alive
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

    def _after_commit(self, session: Session) -> None:
        """A COMMIT was answered, or the RELEASE of a savepoint."""
        self._committed = transaction_of(session)

    def _after_end(self, _: Session, transaction: SessionTransaction) -> None:
        """A transaction is over, also one that was closed without a word."""
        has_committed = transaction is self._committed
        if has_committed:
            self._committed = None
        waiting = self._of.pop(transaction, [])
        if has_committed and transaction.parent is not None:  # it is a part of that one now
            self._of.setdefault(transaction.parent, []).extend(waiting)
            return
        for each in waiting:
            self._all.remove(each)
        _tell(waiting, has_committed)


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
