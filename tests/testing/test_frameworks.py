"""The plugin with the clients of each framework, where no other framework can be imported."""

from __future__ import annotations

import pytest

from tests.testing.running import run_suite

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


def test_xdist(pytester: pytest.Pytester) -> None:
    run_suite(
        pytester, "wsgi", *("-n", "2", "-k", "not coroutine"), plugins="xdist", frameworks="flask"
    )
