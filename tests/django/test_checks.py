"""The system checks, each with what it warns of."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.test import override_settings

from bgadapters.django.checks import check_connection_limits, check_databases, check_middleware
from tests.django.databases import needs_postgres
from tests.django.serving import MIDDLEWARE, Site


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, []),
        (
            {
                "MIDDLEWARE": (
                    "bgadapters.django.BackgroundTasksMiddleware",
                    "bgadapters.django.middleware.BackgroundTasksMiddleware",
                )
            },
            ["bgadapters.W001"],
        ),
        (
            {"DATABASES": {"x": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}},
            ["bgadapters.W002"],
        ),
    ],
)
def test_checks(settings: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.items():
        monkeypatch.setattr(django_settings, name, value)
    found = [message.id for message in run_checks(databases=[])]
    assert [name for name in found if (name or "").startswith("bgadapters")] == ids


def test_a_middleware_below_others() -> None:

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
        ({"max_size": 16}, True),  # 8 workers, 8 async tasks, and the hooks
        ({"max_size": 17}, False),
        ({"max_size": None}, True),
        ({"max_size": None, "min_size": 17}, False),
        ({"max_size": "many"}, False),  # psycopg will say so itself
    ],
)
def test_a_pool_that_is_too_small(
    monkeypatch: pytest.MonkeyPatch, pool: Any, is_small: bool
) -> None:
    pooled = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": pool}}
    monkeypatch.setitem(settings.DATABASES, "pooled", pooled)
    assert [warning.id for warning in check_databases()] == ["bgadapters.W004"] * is_small


@pytest.mark.parametrize(
    ("store", "size", "is_small"),
    [
        ("django://pooled", 18, True),
        ("django://pooled", 19, False),  # two more than tasks use by themselves
        ("django://default", 17, False),
        ("sqlite:///tasks.db", 17, False),
    ],
)
def test_a_pool_that_durable_tasks_are_kept_by(
    monkeypatch: pytest.MonkeyPatch, site: Site, store: str, size: int, is_small: bool
) -> None:
    pooled = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": {"max_size": size}}}
    monkeypatch.setitem(settings.DATABASES, "pooled", pooled)
    site.set(BACKGROUND_TASKS={"STORE": store})
    assert [warning.id for warning in check_databases()] == ["bgadapters.W004"] * is_small


@needs_postgres
def test_a_database_that_admits_too_few(site: Site) -> None:
    assert check_connection_limits(databases=["postgres", "default"]) == []
    assert check_connection_limits() == []
    site.set(BACKGROUND_TASKS={"MAX_WORKERS": 100_000})
    (warning,) = check_connection_limits(databases=["postgres", "default"])
    assert warning.id == "bgadapters.W005"
    assert "'postgres' admits" in warning.msg
