"""Backends of Django's tasks framework in databases, as benches of the contract."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import psycopg
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from bgadapters.engines import Engine
from bgadapters.engines.django_tasks import DjangoTasksEngine
from tests.django.databases import HOST, PORT
from tests.django.settings import INSTALLED_APPS
from tests.engines.bench import Bench, until

NAME = "django.tasks" if find_spec("django.tasks") else "django_tasks"
ALIAS, DATABASE = "TEST_TASKS_ALIAS", "TEST_TASKS_DATABASE"
BACKEND = "tests.django.tasks_backend.Backend"

used: ContextVar[str] = ContextVar("used", default="")
"""The database into which a backend writes."""


class Router:
    """Has the framework's tasks where their backend is."""

    def db_for_read(self, model: Any, **_: Any) -> str | None:
        return used.get() or None if model._meta.app_label == "django_tasks_database" else None

    db_for_write = db_for_read


class Databases:
    """What Django knows while benches are used: their backends, and where each writes.

    Attributes:
        sqlite, postgresql: a database with the tables of tasks.
    """

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        self._backends: dict[str, Any] = {}
        self._known: dict[str, str] = {}
        self.directory = directory
        self._stack.enter_context(
            override_settings(
                INSTALLED_APPS=[*INSTALLED_APPS, "django_tasks_db"],
                DATABASE_ROUTERS=[f"{__name__}.Router"],
            )
        )

    def described(self, engine: str, port: int = 0) -> dict[str, Any]:
        """Return the settings of a database: of the one that is made for a kind, over a port."""
        if engine == "sqlite3":
            found: dict[str, Any] = {
                "NAME": str(self.directory / "tasks.sqlite3"),
                "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
            }
        else:
            found = {
                "NAME": f"bgadapters_test_tasks_{os.getpid()}",
                "HOST": HOST,
                "PORT": port or PORT,
                "USER": "postgres",
                "OPTIONS": {"connect_timeout": 2},
            }
        return {"ENGINE": f"django.db.backends.{engine}", **found}

    def database(self, engine: str, port: int = 0) -> str:
        """Return the alias of such a database, which is made when it is asked for first."""
        alias = f"tasks_{engine}_{port or PORT}"
        if alias not in connections.settings:
            described = self.described(engine, port)
            given = {"default": connections.settings["default"], alias: described}
            connections.settings[alias] = connections.configure_settings(given)[alias]
            self._stack.callback(self._forget, alias)
            if port in {0, PORT}:
                self._make(engine, alias, described["NAME"])
        return alias

    def _make(self, engine: str, alias: str, name: str) -> None:
        if engine == "postgresql":
            server = self._stack.enter_context(
                psycopg.connect(host=HOST, port=PORT, user="postgres", autocommit=True)
            )
            server.execute(f"CREATE DATABASE {name}".encode())
            self._stack.callback(server.execute, f"DROP DATABASE {name} WITH (FORCE)".encode())
        token = used.set(alias)  # its migrations ask
        call_command("migrate", "django_tasks_database", database=alias, verbosity=0)
        used.reset(token)

    def _forget(self, alias: str) -> None:
        connections[alias].close()
        del connections[alias], connections.settings[alias]

    def add_backend(self, alias: str, database: str) -> None:
        """Have a backend that writes into a database."""
        self._backends[alias] = {"BACKEND": BACKEND, "OPTIONS": {"database": database}}
        default = {"BACKEND": f"{NAME}.backends.dummy.DummyBackend"}
        known = {"default": default, **self._backends}
        self._stack.enter_context(override_settings(TASKS=known))

    def close(self) -> None:
        self._stack.close()


databases: list[Databases] = []
"""The one that is used."""


class DjangoTasksBench(Bench):
    """A backend of the framework with an alias of its own, and its worker."""

    kind: ClassVar[str]
    has_another = False  # Django is set up once

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (self._databases,) = databases
        self.alias = f"bench-{uuid.uuid4().hex[:12]}"
        self.database = self._databases.database(self.kind)
        self._databases.add_backend(self.alias, self.database)

    @property
    def port(self) -> int:
        return PORT

    @property
    def own(self) -> Any:
        return import_module("tests.engines.django_tasks_own").own

    def engine(self, **given: Any) -> Engine:
        given.pop("timeout", None)  # which is the database's own
        return DjangoTasksEngine(self.alias, **given)

    def engine_at(self, port: int, **given: Any) -> Engine:
        given.pop("timeout", None)
        alias = f"{self.alias}-{port}"
        self._databases.add_backend(alias, self._databases.database(self.kind, port))
        return DjangoTasksEngine(alias, **given)

    @contextmanager
    def worker(self) -> Iterator[Any]:
        described = self._databases.described(self.kind)
        environ = {
            "DJANGO_SETTINGS_MODULE": "tests.engines.django_tasks_worker",
            ALIAS: self.alias,
            DATABASE: json.dumps(described),
        }
        quick = ("--interval", "0.05", "--no-startup-delay", "--no-reload")
        command = ("-m", "django", "db_worker", "--backend", self.alias, *quick)
        with self.process(*command, **environ) as process:
            until(lambda: "Starting worker" in self.said(), self.said)
            yield process

    def _found(self, status: str) -> list[tuple[str, str]]:
        """Return of each task with a status its id, and its arguments."""

        def find() -> list[tuple[str, str]]:
            models = import_module("django_tasks_db.models")
            tasks = models.DBTaskResult.objects.using(self.database)
            found = tasks.filter(backend_name__startswith=self.alias, status=status)
            try:
                return [(str(each.id), json.dumps(each.args_kwargs)) for each in found]
            finally:
                connections[self.database].close()

        with ThreadPoolExecutor(1) as thread:  # an event loop may run here
            return thread.submit(find).result()

    def waiting(self) -> int:
        return len(self._found("READY"))

    def forge(self, payload: str) -> str:
        engine: Any = self.engine()
        return f"result {engine.task().enqueue(payload).id}"

    def has_failed(self, id: str) -> bool:  # noqa: A002
        failed = self._found("FAILED")
        return any(id == f"result {result}" or id in args for result, args in failed)


class SQLiteBench(DjangoTasksBench):
    kind = "sqlite3"
    ways = ()


class PostgreSQLBench(DjangoTasksBench):
    kind = "postgresql"
