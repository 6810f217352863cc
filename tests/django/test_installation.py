"""What is said where only the decorator is used."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.checks.registry import registry
from django.http import HttpResponse
from django.test import override_settings

from bgadapters.django import background_tasks, installation
from bgadapters.django.asgi import get_asgi_application
from bgadapters.django.installation import missing, what_to_change
from tests.django.serving import MIDDLEWARE
from tests.our_log import OurLog
from tests.test_target import ROOT

SITE = "tests.check.site"
WARNED = "@background_tasks is used, and 'bgadapters.django' is not in INSTALLED_APPS."
NOWHERE = override_settings(INSTALLED_APPS=[], MIDDLEWARE=[])


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(installation, "_has_asgi_application", False)
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


def decorate() -> Any:
    return background_tasks(lambda _: HttpResponse())


def test_a_view_that_is_decorated_in_the_main_thread_has_sigterm_handled() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    thread = threading.Thread(target=decorate)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with override_settings(BACKGROUND_TASKS={"MAX_WORKERS": 0}):  # told by the first request
        decorate()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    decorate()
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL


@pytest.mark.parametrize(
    ("installed", "ids"),
    [
        ({}, ["bgadapters.W007"]),
        ({"MIDDLEWARE": [MIDDLEWARE]}, []),
        ({"INSTALLED_APPS": ["bgadapters.django"]}, []),
    ],
)
def test_what_a_check_for_deployment_says(installed: dict[str, Any], ids: list[str]) -> None:
    decorate()
    with NOWHERE, override_settings(**installed):
        found = run_checks(include_deployment_checks=True)
        assert run_checks() == [] or all(each.id != "bgadapters.W007" for each in run_checks())
    assert [each.id for each in found if (each.id or "").startswith("bgadapters")] == ids


def test_a_check_that_imports_the_views() -> None:
    """The checks that run were chosen by then, so that what is missing is logged."""
    command = [sys.executable, "-m", "django", "check"]
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": f"{SITE}.decorator_alone"}
    for options, is_said in ((["--deploy"], True), ([], False)):
        done = subprocess.run(
            [*command, *options], cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0
        assert (WARNED in done.stderr) is is_said


@pytest.mark.parametrize("is_deployment", [True, False])
def test_views_that_are_decorated_while_checks_run(
    our_log: OurLog, monkeypatch: pytest.MonkeyPatch, is_deployment: bool
) -> None:
    def importing(**_: Any) -> list[Any]:
        decorate()
        return []

    importing.tags = ()  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "registered_checks", {importing})
    with NOWHERE:
        run_checks(include_deployment_checks=is_deployment)
    assert len([said for said in our_log.warnings if WARNED in said]) == is_deployment


def test_what_to_add_and_where() -> None:
    assert missing() is None
    assert "main thread" in (what_to_change() or "")  # it was set up in another
    with NOWHERE:
        assert missing() == what_to_change() == "Add 'bgadapters.django' to INSTALLED_APPS."


async def ask() -> str | None:
    return what_to_change()


def test_what_to_change_under_asgi(monkeypatch: pytest.MonkeyPatch) -> None:
    with NOWHERE:
        assert "bgadapters.django.asgi" in (asyncio.run(ask()) or "")
        monkeypatch.setattr("django.setup", lambda **_: None)
        get_asgi_application()
        assert asyncio.run(ask()) is None
        assert missing() is None
