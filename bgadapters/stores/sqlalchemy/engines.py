"""The engine of a store, which databases it may be of, and what their errors become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from bgadapters.adapters import SettingsError, StoreUnavailableError

_KNOWN = "postgresql", "mysql", "mariadb", "sqlite"
_PORTS = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
_LOCAL = None, "", "localhost", "127.0.0.1", "::1"
_DEADLOCKS = "40001", "40P01", 1213  # in PostgreSQL, and in MySQL
_OLDEST = {"mysql": (8, 0, 1), "mariadb": (10, 6)}  # before these there is no SKIP LOCKED


def engine_of(given: Any) -> Engine:
    """Return an engine for a store, with a pool of its own, which is not connected yet.

    Args:
        given: a URL; or an engine, of which the new one has the way to connect.

    Raises:
        SettingsError: it is none, or of a database or a driver that no store can use.
    """
    if isinstance(given, Engine):
        return _made(given.url, pool=given.pool.recreate())
    if not isinstance(given, (str, URL)):
        raise SettingsError(
            f"SQLAlchemyStore accepts a URL or an Engine, not {given!r}. Of an AsyncEngine give "
            "the URL, with a driver that is not asynchronous"
        )
    try:
        return _made(make_url(given))
    except (ArgumentError, NoSuchModuleError, ImportError) as exc:
        raise SettingsError(f"the store {_shown(given)} cannot be used: {exc}") from exc


def options_of(given: Any, options: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Take options of the store out of the parameters of a URL; leave what is no URL as it is."""
    if not isinstance(given, (str, URL)):
        return given, options
    try:
        url = make_url(given)
    except ArgumentError:
        return given, options
    found = {name: value for name, value in url.query.items() if name in options}
    return url.difference_update_query(found), {**options, **found}


def _shown(given: str | URL) -> str:
    try:
        return repr(make_url(given).render_as_string(hide_password=True))
    except ArgumentError:
        return "of this URL"  # which may have a password in it


def _made(url: URL, **how: Any) -> Engine:
    backend = url.get_backend_name()
    if backend not in _KNOWN:
        raise SettingsError(
            f"SQLAlchemyStore knows {', '.join(_KNOWN)}, not {backend!r}: it goes by the clock of "
            "the database, for which each has words of its own"
        )
    if backend == "sqlite":
        if url.database in (None, "", ":memory:") or "memory" in str(url.query.get("mode")):
            raise SettingsError(
                "a store in the memory of SQLite would survive nothing: name a file"
            )
    else:
        how["isolation_level"] = "READ COMMITTED"
    engine = create_engine(url, hide_parameters=True, **how)
    if engine.dialect.is_async:
        raise SettingsError(
            f"{url.drivername!r} has an asynchronous driver, and the store works in a thread of "
            "its own, without an event loop. Give it a URL with another driver, such as "
            "postgresql+psycopg://, mysql+pymysql:// or sqlite+pysqlite://"
        )
    return engine


def check_version(connection: Connection) -> None:
    """Refuse a database that is too old.

    Raises:
        SettingsError: it is.
    """
    dialect: Any = connection.dialect
    kind = "mariadb" if getattr(dialect, "is_mariadb", False) else dialect.name
    oldest, found = _OLDEST.get(kind), dialect.server_version_info
    if oldest is not None and found < oldest:
        raise SettingsError(
            f"SQLAlchemyStore needs {kind} {'.'.join(map(str, oldest))} or newer, for SKIP LOCKED; "
            f"this is {'.'.join(map(str, found))}"
        )


def is_same_database(one: URL, other: URL) -> bool:
    """Whether two URLs mean the same database, as far as they tell."""
    return _place(one) == _place(other)


def _place(url: URL) -> tuple[Any, ...]:
    backend = url.get_backend_name()
    host = "localhost" if url.host in _LOCAL else url.host
    family = "mysql" if backend == "mariadb" else backend
    return family, host, url.port or _PORTS.get(backend), url.database


def was_undone(error: DBAPIError) -> bool:
    """Whether a transaction was ended that may well succeed when it is tried again."""
    if error.connection_invalidated:
        return True
    cause: Any = error.orig
    codes = [getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None), *cause.args[:1]]
    return any(code in _DEADLOCKS for code in codes)  # drivers of MySQL have theirs in args


@contextmanager
def told_as_unavailable() -> Iterator[None]:
    """Raise `StoreUnavailableError` for what SQLAlchemy raises, without arguments of tasks."""
    try:
        yield
    except SQLAlchemyError as exc:
        cause = exc.orig if isinstance(exc, DBAPIError) else exc
        raise StoreUnavailableError(
            f"the database of durable tasks: {type(cause).__name__}: {str(cause).strip()}"
        ) from exc
