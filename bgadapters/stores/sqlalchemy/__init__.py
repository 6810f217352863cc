"""Durable tasks in a database of SQLAlchemy, shared by the processes of several machines."""

from bgadapters.stores.sqlalchemy.store import SQLAlchemyStore
from bgadapters.stores.sqlalchemy.tables import metadata_for

__all__ = ["SQLAlchemyStore", "metadata_for"]
