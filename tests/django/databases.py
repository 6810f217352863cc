"""The databases of the tests: SQLite in files, and PostgreSQL where one is reachable."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

HOST, PORT = "127.0.0.1", 5432


def why_no_postgres() -> str | None:
    """Why PostgreSQL cannot be used here; None if it can."""
    if importlib.util.find_spec("psycopg") is None:
        return "psycopg is not installed"
    try:
        socket.create_connection((HOST, PORT), 2).close()
    except OSError as exc:
        return f"no PostgreSQL at {HOST}:{PORT}: {exc}"
    return None


NO_POSTGRES = why_no_postgres()
needs_postgres = pytest.mark.skipif(NO_POSTGRES is not None, reason=str(NO_POSTGRES))
ALIASES = ["default", pytest.param("postgres", marks=needs_postgres)]


def settings_of(directory: Path) -> dict[str, dict[str, Any]]:
    """Django's ``DATABASES``."""
    engine = "django.db.backends.sqlite3"
    found: dict[str, dict[str, Any]] = {
        alias: {"ENGINE": engine, "NAME": str(directory / f"{alias}.sqlite3")}
        for alias in ("default", "other")
    }
    if NO_POSTGRES is None:
        found["postgres"] = {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": HOST,
            "PORT": PORT,
            "NAME": "postgres",
            "USER": "postgres",
        }
    return found


@contextmanager
def table(alias: str) -> Iterator[str]:
    """A table of one column for numbers, which nothing else uses."""
    name = f"bgadapters_test_{os.getpid()}"
    with connections[alias].cursor() as cursor:
        cursor.execute(f"DROP TABLE IF EXISTS {name}")
        cursor.execute(f"CREATE TABLE {name} (number integer)")
    try:
        yield name
    finally:
        with connections[alias].cursor() as cursor:
            cursor.execute(f"DROP TABLE {name}")


def select_one(alias: str = "default") -> Any:
    """Use the database; return the row that it answers with."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone()


def insert(alias: str, name: str, number: int) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"INSERT INTO {name} VALUES ({number})")


def numbers(alias: str, name: str) -> list[int]:
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT number FROM {name} ORDER BY number")
        return [row[0] for row in cursor.fetchall()]
