"""The tables of durable tasks, in databases that no other test uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.db import connections

from bgadapters.django.durable.models import Owner, StoredTask
from tests.django.databases import ALIASES, NO_MARIADB

NAME = f"bgadapters_durable_{os.getpid()}"


@pytest.fixture(scope="session")
def _own_databases() -> Iterator[None]:
    """Some for this process: the others run the same migrations."""
    with own_database("postgres"), own_database("mariadb"):
        yield


@contextmanager
def own_database(alias: str) -> Iterator[None]:
    """A database of its own, on the server of an alias, if that is there."""
    if alias not in connections.settings:
        yield
        return
    settings: Any = connections.settings[alias]
    usual = settings["NAME"]
    _execute(alias, f"CREATE DATABASE {NAME}")
    connections.close_all()
    settings["NAME"] = NAME
    yield
    connections.close_all()
    settings["NAME"] = usual
    _execute(alias, f"DROP DATABASE {NAME}" + (" WITH (FORCE)" if alias == "postgres" else ""))


def _execute(alias: str, statement: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)


ALIASES_OF_STORES = [
    *ALIASES,
    pytest.param("mariadb", marks=pytest.mark.skipif(bool(NO_MARIADB), reason=str(NO_MARIADB))),
]


@pytest.fixture(params=ALIASES_OF_STORES)
def alias(request: pytest.FixtureRequest, _own_databases: None) -> Iterator[str]:
    """The alias of a database with empty tables."""
    name: str = request.param
    with tables(name):
        yield name


@pytest.fixture
def default(_own_databases: None) -> Iterator[str]:
    """The default database, with empty tables."""
    with tables("default"):
        yield "default"


class tables:
    """The tables of one database, made by the migrations when they are first needed."""

    _made: ClassVar[set[str]] = set()

    def __init__(self, alias: str) -> None:
        self._alias = alias

    def __enter__(self) -> None:
        if self._alias not in self._made:
            call_command("migrate", "bgadapters_durable", database=self._alias, verbosity=0)
            self._made.add(self._alias)
        self._empty()

    def __exit__(self, *_: object) -> None:
        self._empty()
        connections.close_all()

    def _empty(self) -> None:
        for model in (StoredTask, Owner):
            model.objects.using(self._alias).all().delete()
