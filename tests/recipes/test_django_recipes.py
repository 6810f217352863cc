"""Tenants and current users come along into tasks, with the packages that keep them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.django.databases import HOST, PORT, needs_postgres

ROOT = Path(__file__).parents[2]
ways = pytest.mark.parametrize("way", ["wsgi", "asgi"])


def told_by(site: str, *arguments: str) -> list[dict[str, Any]]:
    """What a site prints that is served in a process of its own."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ.pop("DJANGO_SETTINGS_MODULE", None)
    done = subprocess.run(
        [sys.executable, "-m", f"tests.recipes.{site}", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
@ways
def test_the_user_of_the_request_is_that_of_its_tasks(way: str) -> None:
    """django-simple-history, django-auditlog, django-crum; and the id of django-guid."""
    for package in ("simple_history", "auditlog", "crum"):
        pytest.importorskip(package)
    told = told_by("site_of_users", way)
    assert [each["where"] for each in told] == 3 * ["view", "task", "async task"]
    for number, each in enumerate(told):
        who = each["who"]
        assert (each["history"], each["auditlog"], each["crum"]) == (who, who, who), each
        assert each.get("guid") in {None, f"id-{number // 3}"}
    assert len({each["address"] for each in told if each["who"]}) == 1


@pytest.fixture
def database() -> Iterator[str]:
    """A database of PostgreSQL that is there for one test."""
    import psycopg

    name = f"bgadapters_test_{os.getpid()}"
    server: Any = {"host": HOST, "port": PORT, "user": "postgres", "dbname": "postgres"}
    with psycopg.connect(**server, autocommit=True) as connection:
        execute: Any = connection.execute
        execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        execute(f"CREATE DATABASE {name}")
        yield name
        execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.slow
@needs_postgres
@ways
def test_tasks_run_in_the_schema_of_their_tenant(way: str, database: str) -> None:
    """django-tenants; and a schema that a task has chosen is not the next one's."""
    pytest.importorskip("django_tenants")
    told = told_by("site_of_tenants", way, HOST, str(PORT), database)
    assert [each["kind"] for each in told] == 3 * [
        *("sync", "async, itself", "async"),
        "after another's",
        *("async view's", "async view's, itself", "async view's"),
    ]
    assert [each["asked"] for each in told] == [*7 * ["one"], *7 * ["two"], *7 * ["one"]]
    for each in told:
        assert each["schema"] == each["asked"]
        assert each.get("path") in {None, f"{each['asked']}, public"}
