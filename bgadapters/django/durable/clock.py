"""The clock of the database, by which leases are told: those of several machines may differ."""

from __future__ import annotations

from typing import Any

from django.db import NotSupportedError
from django.db.models import FloatField, Func


def now(connection: Any) -> str:
    """Return the SQL of seconds since 1970, as the database tells them.

    Raises:
        NotSupportedError: it is a database of another kind.
    """
    try:
        return _NOW[connection.vendor]
    except KeyError:
        raise NotSupportedError(
            f"durable tasks are kept in {', '.join(_NOW)}, not in {connection.vendor}"
        ) from None


_NOW = {
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "postgresql": "EXTRACT(EPOCH FROM STATEMENT_TIMESTAMP())",
    "mysql": "UNIX_TIMESTAMP()",  # what is made of NOW(6) goes back in autumn
}


class DatabaseTime(Func):
    """The same as an expression."""

    def __init__(self) -> None:
        super().__init__(output_field=FloatField())

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]  # noqa: ARG002
        """Return the SQL for a kind of database."""
        return now(connection), []
