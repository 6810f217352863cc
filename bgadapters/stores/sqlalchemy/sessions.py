"""Tasks that are kept in the transaction of a session, and run only if that commits.

A row is added to the session like any other object, so that the session's own flush writes it:
no I/O is done when the task is added, and an `AsyncSession` is served like a `Session`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Engine, Table
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, registry

from bgadapters.sqlalchemy_sessions import session_of
from bgadapters.stores.sqlalchemy.engines import is_same_database


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
        session = session_of(given)
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
