"""The databases of the tests: SQLite in files, PostgreSQL and MariaDB where they are reachable."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

HOST, PORT, PORT_OF_MARIADB = "127.0.0.1", 5432, 3306


def _why_not(name: str, port: int, driver: str) -> str | None:
    """Why a server cannot be used here; None if it can."""
    if importlib.util.find_spec(driver) is None:
        return f"{driver} is not installed"
    try:
        socket.create_connection((HOST, port), 2).close()
    except OSError as exc:
        return f"no {name} at {HOST}:{port}: {exc}"
    return None


NO_POSTGRES = _why_not("PostgreSQL", PORT, "psycopg")
NO_MARIADB = _why_not("MariaDB", PORT_OF_MARIADB, "pymysql")
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
    if NO_MARIADB is None:
        _use_pymysql()
        found["mariadb"] = {
            "ENGINE": "django.db.backends.mysql",
            "HOST": HOST,
            "PORT": PORT_OF_MARIADB,
            "NAME": "mysql",
            "USER": "root",
        }
    return found


def _use_pymysql() -> None:
    """Have Django's backend for MySQL take the driver that is written in Python."""
    import_module("pymysql").install_as_MySQLdb()


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
