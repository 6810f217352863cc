"""Jobs that are put into the database by a transaction that is open here."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
from procrastinate import SyncPsycopgConnector
from procrastinate.jobs import Job
from procrastinate.manager import JobManager

ACCEPTED = (
    "an AsyncSession of SQLAlchemy, a Session whose driver is psycopg, or a connection of psycopg; "
    "of an AsyncConnection, add_task() would have to be awaited"
)


def is_asynchronous(session: Any) -> bool:
    """Whether it is an `AsyncSession` of SQLAlchemy, or a scoped one."""
    return hasattr(session, "sync_session")  # not imported: that fails without greenlet


def put_with(session: Any, job: Job) -> None:
    """Put a job into the database in the transaction of a session.

    Args:
        session: a session of SQLAlchemy, or a connection of psycopg.
        job: the job.

    Raises:
        TypeError: it is none of these, or no transaction is open.
        AlreadyEnqueued: a job with its queueing lock waits. The transaction goes on.
    """
    connection = _connection_of(session)
    is_idle = connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
    if connection.autocommit and is_idle:
        raise TypeError(
            "send='in_transaction' found no open transaction: the connection commits each "
            "statement by itself (autocommit)"
        )
    connection.execute("SAVEPOINT bgadapters")
    try:
        JobManager(SyncPsycopgConnector()).defer_job(job, connection=connection)
    except BaseException:
        with suppress(psycopg.Error):  # the connection is gone
            connection.execute("ROLLBACK TO SAVEPOINT bgadapters")
        raise
    connection.execute("RELEASE SAVEPOINT bgadapters")


def put_with_django(job_manager: JobManager, alias: str, job: Job) -> None:
    """Put a job into the database in the transaction that Django has open.

    Args:
        job_manager: that of the app.
        alias: the database in Django's settings.
        job: the job.

    Raises:
        TypeError: no transaction is open there.
        AlreadyEnqueued: a job with its queueing lock waits. The transaction goes on.
    """
    from django.db import connections, transaction

    if not connections[alias].in_atomic_block:
        raise TypeError(
            f"send='in_transaction' found no open transaction in the database {alias!r}, where the "
            "jobs are. Add the task inside of transaction.atomic(), or without send="
        )
    with transaction.atomic(using=alias):
        job_manager.defer_job(job)


def taken(job: Job) -> str:
    """Say that a job is left out, as another one with its key waits."""
    return f"a job with the queueing lock {job.queueing_lock!r} waits in Procrastinate"


def _connection_of(session: Any) -> psycopg.Connection[Any]:
    connection = session
    if callable(getattr(session, "get_bind", None)):
        connection = session.connection().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        what = type(session).__name__
        if connection is not session:
            what += f" whose driver's connection is {type(connection).__module__}"
        raise TypeError(f"options(session=...) accepts here {ACCEPTED}, not {what}")
    return connection
