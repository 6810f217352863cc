"""Durable tasks in a file of SQLite, shared by the processes of one machine."""

from bgadapters.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
