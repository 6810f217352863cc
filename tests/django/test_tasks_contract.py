"""What holds for every engine, with backends of Django's tasks framework and their workers.

Django 6 has the framework, other versions the backport; the backends are in databases.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest

from tests.django.databases import needs_postgres
from tests.django.tasks_bench import Databases, PostgreSQLBench, SQLiteBench, databases
from tests.engines.conftest import shared
from tests.engines.contract import EngineContract

__all__ = ["shared"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("django_tasks_db") is None, reason="no django-tasks-db"),
]


@pytest.fixture(scope="module", autouse=True)
def _databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    databases.append(Databases(tmp_path_factory.mktemp("databases")))
    yield
    databases.pop().close()


class TestSQLite(EngineContract):
    bench_type = SQLiteBench


@needs_postgres
class TestPostgreSQL(EngineContract):
    bench_type = PostgreSQLBench
