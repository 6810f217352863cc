"""The databases that the store of SQLAlchemy is tested on: what is reachable, and tables in it."""

from __future__ import annotations

import importlib.util
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


class Proxy:
    """Stands between a store and its server, so that this can go away and come back."""

    def __init__(self, url: str) -> None:
        parts = make_url(url)
        self._server = str(parts.host), int(parts.port or 0)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = parts.set(port=port).render_as_string(hide_password=False)
        self._is_up = True
        threading.Thread(target=self._accept, daemon=True).start()

    def go_away(self) -> None:
        """Break all connections, and those that come."""
        self._is_up = False
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def come_back(self) -> None:
        self._is_up = True

    def close(self) -> None:
        self.go_away()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if not self._is_up:
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                self._sockets += client, server
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=_pipe, args=(source, target), daemon=True).start()


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()


def be_a_day_ahead() -> None:
    _set_clock(86_400.0)


def be_a_day_behind() -> None:
    _set_clock(-86_400.0)


def _set_clock(seconds: float) -> None:
    """Have this process, which is a test's own, believe in another time."""
    right = time.time
    time.time = lambda: right() + seconds
