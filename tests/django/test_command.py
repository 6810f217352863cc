"""The command ``background_tasks``: it prints the settings in force."""

from __future__ import annotations

from io import StringIO
from typing import Any

from django.core.management import call_command

from tests.django.serving import MIDDLEWARE, Site


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
