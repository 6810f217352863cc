"""The tables of the store, and the clock of the database."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import Column, Double, Index, Integer, MetaData, String, Table, Text
from sqlalchemy.dialects.mysql import LONGTEXT
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

VERSION = 1
"""That of the tables. One that is not this is refused."""

DEFAULT = "bgadapters_tasks"

_LONG = Text().with_variant(LONGTEXT(), "mysql", "mariadb")
_INNODB: dict[str, Any] = {
    f"{dialect}_{option}": value
    for dialect in ("mysql", "mariadb")
    for option, value in (("engine", "InnoDB"), ("charset", "utf8mb4"))
}


class Tables(NamedTuple):
    """The tables of one store.

    Attributes:
        tasks: a row for each task.
        owners: a row for each process that uses the store, and until when its lease lasts.
        schema: the version of the tables.
    """

    tasks: Table
    owners: Table
    schema: Table


def make_tables(name: str, metadata: MetaData) -> Tables:
    """Return the tables of a store whose table of tasks has this name."""
    tasks = Table(
        name,
        metadata,
        Column("id", String(32), primary_key=True),
        Column("queue_id", String(32), nullable=False),
        Column("position", Integer, nullable=False),
        Column("added", Double, nullable=False),
        Column("payload", _LONG, nullable=False),
        Column("name", Text, nullable=False),
        Column("key", Text),
        Column("priority", Integer, nullable=False),
        Column("due", Double),
        Column("attempt", Integer, nullable=False),
        Column("crashes", Integer, nullable=False),
        Column("is_recovered", Integer, nullable=False),
        Column("state", String(8), nullable=False),
        Column("failure", _LONG),
        Column("ended", Double),
        # What a Row does not say: who has the task, whether that has noted its beginning, and the
        # digest of its key, which any database can compare and index, once it was claimed for it.
        Column("owner", String(32)),
        Column("has_begun", Integer, nullable=False, server_default="0"),
        Column("claimed", Integer, nullable=False, server_default="0"),
        Column("key_digest", String(64)),
        Index(f"{name}_owner", "owner"),
        Index(f"{name}_queue", "queue_id"),
        Index(f"{name}_key", "key_digest"),
        **_INNODB,
    )
    owners = Table(
        f"{name}_owners",
        metadata,
        Column("id", String(32), primary_key=True),
        Column("expires", Double, nullable=False),
        **_INNODB,
    )
    schema = Table(
        f"{name}_schema",
        metadata,
        Column("version", Integer, primary_key=True, autoincrement=False),
        **_INNODB,
    )
    return Tables(tasks, owners, schema)


def metadata_for(table: str = DEFAULT) -> MetaData:
    """Return what Alembic needs to make the tables, instead of the store: its ``target_metadata``.

    Args:
        table: as for `SQLAlchemyStore`.
    """
    metadata = MetaData()
    make_tables(table, metadata)
    return metadata


class now(FunctionElement[float]):  # noqa: N801  a function of SQL
    """The time of the database in seconds since 1970, whatever the time zone of the session."""

    type = Double()
    inherit_cache = True


@compiles(now, "postgresql")
def _now_in_postgresql(*_: Any, **__: Any) -> str:
    return "extract(epoch from clock_timestamp())"


@compiles(now, "mysql")
@compiles(now, "mariadb")
def _now_in_mysql(*_: Any, **__: Any) -> str:
    return "(timestampdiff(microsecond, '1970-01-01', utc_timestamp(6)) / 1e6)"


@compiles(now, "sqlite")
def _now_in_sqlite(*_: Any, **__: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"
