"""Stores of durable tasks: to look at what they keep, and what the author of another one needs."""

from bgadapters.adapters import Change, Row, State, Store, StoredTask, StoredTasks

__all__ = ["Change", "Row", "State", "Store", "StoredTask", "StoredTasks"]
