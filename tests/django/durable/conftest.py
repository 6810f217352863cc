"""The tables of durable tasks, in databases that no other test uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from django.core.management import call_command
from django.db import connections

from bgadapters.django.durable.models import Owner, StoredTask
from tests.django.databases import ALIASES, NO_POSTGRES

NAME = f"bgadapters_durable_{os.getpid()}"


@pytest.fixture(scope="session")
def _database_of_postgres() -> Iterator[None]:
    """One for this process: the others run the same migrations."""
    if NO_POSTGRES is not None:
        yield
        return
    settings: Any = connections.settings["postgres"]
    usual = settings["NAME"]
    _execute(f"CREATE DATABASE {NAME}")
    connections.close_all()
    settings["NAME"] = NAME
    yield
    connections.close_all()
    settings["NAME"] = usual
    _execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def _execute(statement: str) -> None:
    with connections["postgres"].cursor() as cursor:
        cursor.execute(statement)


@pytest.fixture(params=ALIASES)
def alias(request: pytest.FixtureRequest, _database_of_postgres: None) -> Iterator[str]:
    """The alias of a database with empty tables."""
    name: str = request.param
    with tables(name):
        yield name


@pytest.fixture
def default(_database_of_postgres: None) -> Iterator[str]:
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
