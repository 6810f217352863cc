"""A signal for each thing that happens to a task, and the command that shows what is in force."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.http import HttpResponse

from bgadapters import TaskEvent, add_task
from bgadapters.django import background_tasks, signals
from bgadapters.django.checks import (
    check_connection_limits,
    check_databases,
    check_middleware,
)
from tests.django.databases import needs_postgres
from tests.django.serving import Site
from tests.django.test_where import MIDDLEWARE

Log = list[Any]


def good() -> None: ...


def bad() -> None:
    raise ValueError("no")


@pytest.fixture
def heard() -> Iterator[Log]:
    log: Log = []

    def hear(sender: Any, event: TaskEvent, **_: Any) -> None:
        log.append((event.kind, sender.__name__))

    def broken(**_: Any) -> None:
        raise RuntimeError("a broken receiver")

    for signal in signals.SIGNALS.values():
        signal.connect(broken)
        signal.connect(hear)
    yield log
    for signal in signals.SIGNALS.values():
        signal.disconnect(broken)
        signal.disconnect(hear)


def test_a_signal_for_each_event(site: Site, heard: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        add_task(good)
        add_task(bad)
        return HttpResponse()

    events: Log = []
    site.set(BACKGROUND_TASKS={"ON_EVENT": events.append})
    site.serve(view).get()
    assert heard == [
        ("added", "good"),
        ("added", "bad"),
        ("started", "good"),
        ("succeeded", "good"),
        ("started", "bad"),
        ("failed", "bad"),
    ]
    assert [event.kind for event in events] == [kind for kind, _ in heard]


def test_discarded_tasks_have_one_too(site: Site, heard: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        add_task(good)
        raise ValueError

    site.serve(view).get()
    assert heard == [("added", "good"), ("discarded", "good")]


def printed(**options: Any) -> str:
    out = StringIO()
    call_command("background_tasks", stdout=out, **options)
    return out.getvalue()


def test_the_command_prints_the_settings_in_force(site: Site) -> None:
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 3})
    lines = printed().splitlines()
    assert "MAX_WORKERS = 3  (BACKGROUND_TASKS)" in lines
    assert "DRAIN_TIMEOUT = 30.0  (default)" in lines
    assert "ON_EVENT = None  (default)" in lines
    assert lines[-1] == "The checks have found nothing."


def test_the_command_prints_what_the_checks_find(site: Site) -> None:
    site.set(MIDDLEWARE=["some.Other", MIDDLEWARE])
    assert "bgadapters.W003" in printed()


def test_a_middleware_below_others() -> None:
    from django.test import override_settings

    fine = ["django.middleware.security.SecurityMiddleware", MIDDLEWARE, "some.Other"]
    with override_settings(MIDDLEWARE=fine):
        assert check_middleware() == []
    for name in (MIDDLEWARE, MIDDLEWARE.replace(".Back", ".middleware.Back")):
        with override_settings(MIDDLEWARE=("some.Other", name)):
            (warning,) = check_middleware()
        assert warning.id == "bgadapters.W003"
        assert "below some.Other" in warning.msg


@pytest.mark.parametrize(
    ("pool", "is_small"),
    [
        (None, False),
        (True, True),  # psycopg's default: 4
        ({"min_size": 2, "max_size": 8}, True),
        ({"max_size": 9}, False),
        ({"max_size": None}, True),
        ({"max_size": None, "min_size": 9}, False),
        ({"max_size": "many"}, False),  # psycopg will say so itself
    ],
)
def test_a_pool_that_is_too_small(
    monkeypatch: pytest.MonkeyPatch, pool: Any, is_small: bool
) -> None:
    pooled = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": pool}}
    monkeypatch.setitem(settings.DATABASES, "pooled", pooled)
    assert [warning.id for warning in check_databases()] == ["bgadapters.W004"] * is_small


@needs_postgres
def test_a_database_that_admits_too_few(site: Site) -> None:
    assert check_connection_limits(databases=["postgres", "default"]) == []
    assert check_connection_limits() == []
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 100_000})
    (warning,) = check_connection_limits(databases=["postgres", "default"])
    assert warning.id == "bgadapters.W005"
    assert "'postgres' admits" in warning.msg
