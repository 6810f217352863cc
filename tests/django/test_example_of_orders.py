"""The example of orders (``examples/django_orders.py``), on a real server and both databases."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.django.databases import HOST, PORT, needs_postgres
from tests.running import running

POSTGRES = f"postgresql://postgres@{HOST}:{PORT}/postgres"


def post(url: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.parametrize(
    "database", ["sqlite", pytest.param("postgres", marks=needs_postgres)], ids=str
)
def test_an_order_commits_and_another_is_rolled_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    url = POSTGRES if database == "postgres" else f"sqlite:///{tmp_path / 'orders.sqlite3'}"
    monkeypatch.setenv("ORDERS_DATABASE", url)
    monkeypatch.setenv("NOTIFICATIONS_LOG", str(tmp_path / "log"))
    server = ("{bin}/gunicorn", "--threads", "4", "--bind", "127.0.0.1:{port}")
    with running(tmp_path, *server, "examples.django_orders:application") as site:
        assert post(f"{site.url}/order/apples/3") == 201
        assert post(f"{site.url}/order/apples/300") == 409
        assert post(f"{site.url}/order/pears/4") == 201
    confirmed = (tmp_path / "log").read_text().splitlines()
    assert sorted(confirmed) == [
        "ada@example.org: 3 apples are yours",
        "ada@example.org: 4 pears are yours",
    ]
    assert site.log.read_text().count("background task(s) discarded") == 1
    if database == "postgres":
        drop_table()


def drop_table() -> None:
    import psycopg

    with psycopg.connect(POSTGRES) as connection:
        connection.execute("DROP TABLE bgadapters_example_orders")


def test_a_database_that_is_not_known() -> None:
    result = subprocess.run(
        [sys.executable, "-c", "import examples.django_orders"],
        env={**os.environ, "ORDERS_DATABASE": "mysql://x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ORDERS_DATABASE accepts postgresql:// and sqlite:///, not 'mysql://x'" in result.stderr
