"""Deletes rows without a signal: receivers are code of the application, and may raise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.db import connections
from django.db.models import Model

AT_ONCE = 400
"""How many values a statement has, at most: databases bound that."""


def delete(model: type[Model], alias: str, where: str, values: Sequence[Any] = ()) -> int:
    """Delete rows in one statement; return how many.

    Args:
        model: whose.
        alias: that of the database.
        where: the condition, as SQL.
        values: those of its placeholders.
    """
    connection = connections[alias]
    table = connection.ops.quote_name(model._meta.db_table)  # noqa: SLF001  published in spite of its name
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {where}", list(values))  # noqa: S608
        return int(cursor.rowcount)


def one_of(ids: Sequence[str]) -> str:
    """Return the condition that the id is one of so many."""
    return f"id IN ({', '.join(['%s'] * len(ids))})"


def in_parts(values: Iterable[str]) -> Iterator[list[str]]:
    """Yield lists of values, of which each fits into a statement."""
    left = iter(values)
    while part := list(islice(left, AT_ONCE)):
        yield part
