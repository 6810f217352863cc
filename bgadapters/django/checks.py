"""System checks, for what would not fail at start-up but surprise later."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import connections

from bgadapters.django.durable.place import has_tables, is_meant, parsed
from bgadapters.django.installation import ADD_APPLICATION, MIDDLEWARE, NAMES_OF_MIDDLEWARE
from bgadapters.django.runtime import get_runtime


def check_middleware(*_: Any, **__: Any) -> list[checks.CheckMessage]:
    """W001: the middleware is listed more than once. W003: below others that may add tasks."""
    places = [
        place for place, name in enumerate(settings.MIDDLEWARE) if name in NAMES_OF_MIDDLEWARE
    ]
    if len(places) > 1:
        return [
            checks.Warning(
                f"{MIDDLEWARE} is listed {len(places)} times in MIDDLEWARE.",
                hint="List it once: all of them share one queue a request.",
                id="bgadapters.W001",
            )
        ]
    above: Sequence[str] = settings.MIDDLEWARE[: places[0]] if places else []
    others = [name for name in above if not name.startswith("django.")]
    if not others:
        return []
    return [
        checks.Warning(
            f"{MIDDLEWARE} is below {', '.join(others)} in MIDDLEWARE.",
            hint="What these add has no queue, and an exception of theirs discards no task. List "
            "it above them.",
            id="bgadapters.W003",
        )
    ]


def check_databases(*_: Any, **__: Any) -> list[checks.CheckMessage]:
    """W002: a database that worker threads cannot see. W004: a connection pool too small."""
    found: list[checks.CheckMessage] = []
    for alias, database in settings.DATABASES.items():
        if database.get("ENGINE", "").endswith(".sqlite3") and str(
            database.get("NAME", "")
        ).startswith((":memory:", "file::memory:")):
            found.append(
                checks.Warning(
                    f"The database {alias!r} is SQLite in memory, which each thread has for "
                    "itself.",
                    hint="Sync tasks run in worker threads and find it empty. Use a file.",
                    id="bgadapters.W002",
                )
            )
        size = _size_of_pool((database.get("OPTIONS") or {}).get("pool"))
        needed = _connections_of_tasks(alias)
        if size is not None and size < needed:
            found.append(
                checks.Warning(
                    f"The pool of the database {alias!r} has {size} connections; tasks may use "
                    f"{needed}, besides the requests.",
                    hint="Raise max_size in the OPTIONS of the database, or lower MAX_WORKERS.",
                    id="bgadapters.W004",
                )
            )
    return found


def check_connection_limits(
    *_: Any, databases: Sequence[str] | None = None, **__: Any
) -> list[checks.CheckMessage]:
    """W005: a database that admits fewer connections than tasks may use. Asks the database."""
    found: list[checks.CheckMessage] = []
    for alias in databases or ():
        limit, needed = _limit_of(connections[alias]), _connections_of_tasks(alias)
        if limit is not None and limit < needed:
            found.append(
                checks.Warning(
                    f"The database {alias!r} admits {limit} connections; tasks of one process may "
                    f"use {needed}, besides the requests.",
                    hint="Lower MAX_WORKERS, or raise the limit of the database.",
                    id="bgadapters.W005",
                )
            )
    return found


def check_tables_of_tasks(
    *_: Any, databases: Sequence[str] | None = None, **__: Any
) -> list[checks.CheckMessage]:
    """W008: durable tasks are to be kept in a database that has no tables for them. Asks it."""
    store = get_runtime().settings.store
    if not is_meant(store):
        return []
    alias = parsed(store).alias
    if alias not in (databases or ()) or has_tables(connections[alias]):
        return []
    return [
        checks.Warning(
            f"The database {alias!r} has no tables for durable tasks.",
            hint=f"Run 'manage.py migrate --database {alias}'.",
            id="bgadapters.W008",
        )
    ]


CHECKS = (check_middleware, check_databases)
"""Those that ask no database."""


_CONNECTIONS_OF_STORE = 2
"""The thread that writes durable tasks has one, and so has the one that renews the lease."""


def _connections_of_tasks(alias: str) -> int:
    """What the tasks of one process may have open to a database.

    One for each worker thread, one for each async task at work, and one for hooks and receivers;
    and those of the store, if it is this database.
    """
    current = get_runtime().settings
    is_store = is_meant(current.store) and parsed(str(current.store)).alias == alias
    return 2 * current.max_workers + 1 + _CONNECTIONS_OF_STORE * is_store


def _size_of_pool(pool: Any) -> int | None:
    """The most connections that Django's pool opens, as psycopg understands its options."""
    if not pool:
        return None
    options: dict[str, Any] = pool if isinstance(pool, dict) else {}
    size = options.get("max_size")
    if size is None:
        size = options.get("min_size", 4)
    return size if isinstance(size, int) else None


def _limit_of(connection: Any) -> int | None:
    query = {
        "postgresql": "SELECT setting::int FROM pg_settings WHERE name = 'max_connections'",
        "mysql": "SELECT @@max_connections",
    }.get(connection.vendor)
    if query is None:
        return None
    with connection.cursor() as cursor:
        cursor.execute(query)
        return int(cursor.fetchone()[0])


def check_backend(alias: str) -> list[checks.CheckMessage]:
    """W006: a backend for tasks is used without its application; asked by the backend itself."""
    if apps.is_installed("bgadapters.django"):
        return []
    return [
        checks.Warning(
            f"The backend of TASKS[{alias!r}] is used without its application.",
            hint=f"{ADD_APPLICATION}: it checks BACKGROUND_TASKS at start-up, and "
            "lets tasks finish where SIGTERM would kill the process.",
            id="bgadapters.W006",
        )
    ]
