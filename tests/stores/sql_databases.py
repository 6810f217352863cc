"""The databases that the store of SQLAlchemy is tested on: what is reachable, and tables in it."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url

from bgadapters.stores.sqlalchemy import metadata_for

LEASE = 2.0
"""Seconds: short, as tests wait for it."""

SERVERS = {
    "postgresql": ("psycopg", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"),
    "mariadb": ("pymysql", "mysql+pymysql://root@127.0.0.1:3306/test"),
}
"""What is looked for: the driver's module, and the URL."""

_numbers = count()


def why_not(name: str) -> str | None:
    """Why a server cannot be used here; None if it can."""
    module, url = SERVERS[name]
    if importlib.util.find_spec(module) is None:
        return f"{module} is not installed"
    host, port = make_url(url).host, make_url(url).port
    try:
        socket.create_connection((str(host), port or 0), 2).close()
    except OSError as exc:
        return f"no {name} at {host}:{port}: {exc}"
    return None


NEEDS = {
    name: pytest.mark.skipif(why is not None, reason=str(why))
    for name, why in ((name, why_not(name)) for name in SERVERS)
}
DATABASES = ["sqlite", *(pytest.param(name, marks=NEEDS[name]) for name in SERVERS)]
needs_postgresql = NEEDS["postgresql"]


@contextmanager
def url_of(name: str, directory: Path, lease: float = LEASE) -> Iterator[str]:
    """The URL of a store whose tables nothing else uses; they are dropped in the end."""
    table = f"bgadapters_test_{os.getpid()}_{next(_numbers)}"
    bare = SERVERS[name][1] if name in SERVERS else f"sqlite+pysqlite:///{directory}/tasks.db"
    try:
        yield f"{bare}?lease={lease}&table={table}"
    finally:
        with engine(bare) as found:
            metadata_for(table).drop_all(found)


@contextmanager
def engine(url: str) -> Iterator[Engine]:
    """An engine for the database of a store, which is disposed of in the end."""
    found = create_engine(make_url(url).difference_update_query(["lease", "table"]))
    try:
        yield found
    finally:
        found.dispose()
