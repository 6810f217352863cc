"""Stores of durable tasks, and what the author of another one needs."""

from bgadapters.adapters import Change, Row, State, Store

__all__ = ["Change", "Row", "State", "Store"]
