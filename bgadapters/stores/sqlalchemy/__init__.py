"""Durable tasks in a database of SQLAlchemy, shared by the processes of several machines."""

from bgadapters.adapters import explain_missing

try:
    from bgadapters.stores.sqlalchemy.store import SQLAlchemyStore
    from bgadapters.stores.sqlalchemy.tables import metadata_for
except ModuleNotFoundError as missing:
    explain_missing(
        missing,
        "sqlalchemy",
        "bgadapters.stores.sqlalchemy needs it: pip install 'bgadapters[sqlalchemy]'.",
    )
    raise

__all__ = ["SQLAlchemyStore", "metadata_for"]
