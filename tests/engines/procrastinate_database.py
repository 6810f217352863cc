"""A database of PostgreSQL with the tables of Procrastinate, and what is in them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import procrastinate
import psycopg

from tests.stores.sql_databases import NEEDS, Proxy

SERVER = "postgresql://postgres@127.0.0.1:5432"
needs_postgresql = NEEDS["postgresql"]

_numbers = count()


class Database:
    """A database that nothing else uses.

    Args:
        url: how to reach it.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def app(self, url: str | None = None, **pool: Any) -> procrastinate.App:
        """An app whose jobs are in it."""
        given: dict[str, Any] = {"min_size": 1, "max_size": 4, **pool}
        connector = procrastinate.PsycopgConnector(conninfo=url or self.url, **given)
        return procrastinate.App(connector=connector)

    def all(self, query: str) -> list[tuple[Any, ...]]:
        """What a query returns."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode()).fetchall()

    def statuses(self) -> list[str]:
        """Those of all jobs, in the order in which these came."""
        found = self.all("SELECT status::text FROM procrastinate_jobs ORDER BY id")
        return [status for (status,) in found]

    def clear(self) -> None:
        """Remove all jobs."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("TRUNCATE procrastinate_jobs, procrastinate_events CASCADE")


@contextmanager
def database() -> Iterator[Database]:
    """Make a database; it is dropped in the end."""
    name = f"bgadapters_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(f"{SERVER}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        try:
            made = Database(f"{SERVER}/{name}")
            connector = procrastinate.SyncPsycopgConnector(conninfo=made.url, min_size=1)
            app = procrastinate.App(connector=connector)
            with app.open():
                app.schema_manager.apply_schema()
            yield made
        finally:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def proxied(to: Database) -> Iterator[Proxy]:
    """Stand between a database and those who use it."""
    proxy = Proxy(to.url)
    try:
        yield proxy
    finally:
        proxy.close()


def work_off(app: procrastinate.App) -> None:
    """Run what is due, as a worker does."""

    async def main() -> None:
        async with app.open_async():
            await app.run_worker_async(
                wait=False, install_signal_handlers=False, listen_notify=False
            )

    asyncio.run(main())
