"""The plugin with the clients of each framework, where no other framework can be imported."""

from __future__ import annotations

import pytest

from tests.testing.running import run_suite

pytestmark = pytest.mark.slow  # each starts pytest processes of its own

ASYNCIO = "asyncio_mode = {}\nasyncio_default_fixture_loop_scope = function"


def test_fastapi_and_pytest_asyncio(pytester: pytest.Pytester) -> None:
    ran = run_suite(
        pytester,
        "asgi",
        ini=ASYNCIO.format("auto"),
        plugins="asyncio randomly",
        frameworks="fastapi",
    )
    failed = ran["test_fails_with_the_task"].text
    assert "Raised by the background task test_asgi.fail of /fail" in failed
    assert 'raise ValueError("of a task")' in failed


def test_fastapi_and_pytest_asyncio_in_strict_mode(pytester: pytest.Pytester) -> None:
    run_suite(
        pytester,
        "asgi",
        *("-k", "coroutine"),
        ini=ASYNCIO.format("strict"),
        plugins="asyncio",
        frameworks="fastapi",
        mark="asyncio",
    )


def test_fastapi_and_anyio(pytester: pytest.Pytester) -> None:
    run_suite(
        pytester, "asgi", *("-k", "coroutine"), plugins="anyio", frameworks="fastapi", mark="anyio"
    )


def test_flask(pytester: pytest.Pytester) -> None:
    ran = run_suite(
        pytester,
        "wsgi",
        ini=ASYNCIO.format("auto"),
        plugins="asyncio randomly",
        frameworks="flask",
    )
    lost = ran["test_errors_for_a_stream_that_nobody_reads"].text
    assert lost.startswith("1 background task(s) never ran, since nothing closed their response: ")
    assert "test_wsgi.note of /break" in lost


def _has_postgresql() -> bool:
    psycopg = pytest.importorskip("psycopg")
    try:
        psycopg.connect("postgresql://postgres@127.0.0.1/postgres", connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_django_and_pytest_django(pytester: pytest.Pytester, database: str) -> None:
    if database == "postgresql" and not _has_postgresql():
        pytest.skip("no PostgreSQL server answers on 127.0.0.1:5432 to postgres")
    ran = run_suite(
        pytester,
        "django_site",
        "--no-migrations",
        ini=ASYNCIO.format("auto"),
        plugins="asyncio django randomly",
        frameworks="django",
        DJANGO_SETTINGS_MODULE="tests.testing.suites.django_settings",
        SUITE_DATABASE=database,
    )
    failed = ran["test_fails_with_the_task_of_a_server"].text
    assert "Raised by the background task test_django_site.fail of /fail" in failed
