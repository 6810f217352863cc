"""Jobs that an `AsyncSession` puts into the database, when its transaction commits.

``add_task`` is not awaited, so it may not use the connection of such a session. The session's own
commit may: SQLAlchemy tells of it where the connection can be used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from procrastinate.connector import BaseConnector
from procrastinate.exceptions import AlreadyEnqueued, UniqueViolation
from procrastinate.jobs import Job
from procrastinate.manager import QUEUEING_LOCK_CONSTRAINT, JobManager
from procrastinate.types import JobToDefer
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from bgadapters.engines import SentByCommit
from bgadapters.engines.procrastinate.transaction import taken
from bgadapters.sqlalchemy_sessions import Commits, begun, session_of

_TYPES = {
    "queue_name": "varchar",
    "task_name": "varchar",
    "priority": "integer",
    "lock": "text",
    "queueing_lock": "text",
    "args": "jsonb",
    "scheduled_at": "timestamptz",
}
"""Those of what Procrastinate says of a job, in its order; drivers do not know it by itself."""


def put_at_commit(given: Any, job: Job, dumps: Callable[..., Any] | None) -> SentByCommit:
    """Have a job put into the database when the transaction commits that is open in a session.

    Args:
        given: the `AsyncSession`, or a scoped one.
        job: the job.
        dumps: how its arguments become JSON. Default: as `json.dumps` does it.

    Raises:
        TypeError: the session is of no PostgreSQL, or has no transaction and begins none by itself.
    """
    session = session_of(given)
    transaction = begun(session)
    try:
        database = session.get_bind().dialect.name
    except SQLAlchemyError as exc:
        raise TypeError(
            f"options(session=...): the session does not know in which database to put the job "
            f"({exc}). Give it a bind for all tables, as AsyncSession(engine) has"
        ) from exc
    if database != "postgresql":
        raise TypeError(f"options(session=...): the jobs are in PostgreSQL, and this is {database}")
    putting = _Putting(job, JobManager(_OverConnection(dumps)))
    commits = Commits.of(session)
    commits.write_with(transaction, putting.put)
    commits.call_at_end(transaction, putting.resolve)
    return putting


class _Putting(SentByCommit):
    """One job on its way."""

    def __init__(self, job: Job, manager: JobManager) -> None:
        super().__init__()
        self._job = job
        self._manager = manager

    def put(self, session: Session) -> None:
        self.left_out, connection = None, session.connection()  # it may have been undone before
        try:
            with connection.begin_nested():
                self._manager.defer_job(self._job, connection=connection)
        except AlreadyEnqueued:
            self.left_out = taken(self._job)


class _OverConnection(BaseConnector):
    """Lets Procrastinate make its statement, and executes that with whatever driver there is."""

    def __init__(self, dumps: Callable[..., Any] | None) -> None:
        self._dumps = dumps or json.dumps

    def get_sync_connector(self) -> BaseConnector:
        return self

    def execute_query_all_with_connection(
        self, connection: Connection, query: str, **arguments: Any
    ) -> list[dict[str, Any]]:
        """Execute what defers jobs."""
        rows, values = list[str](), dict[str, Any]()
        jobs: list[JobToDefer] = arguments["jobs"]
        for number, job in enumerate(jobs):
            said = {**job._asdict(), "args": self._dumps(job.args)}
            values |= {f"{name}_{number}": said[name] for name in _TYPES}
            casts = (f"CAST(:{name}_{number} AS {kind})" for name, kind in _TYPES.items())
            rows.append(f"ROW({', '.join(casts)})")
        statement = text(query.replace("%(jobs)s", f"ARRAY[{', '.join(rows)}]"))
        try:
            return [dict(each) for each in connection.execute(statement, values).mappings()]
        except IntegrityError as exc:
            if QUEUEING_LOCK_CONSTRAINT not in str(exc.orig):
                raise
            raise UniqueViolation(
                constraint_name=QUEUEING_LOCK_CONSTRAINT, queueing_lock=jobs[0].queueing_lock
            ) from exc
