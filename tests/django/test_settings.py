"""The settings: what is refused, when, and what takes effect."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse
from django.test import override_settings

from bgadapters.django import BackgroundTasksMiddleware
from bgadapters.django.runtime import get_runtime

WRONG = [
    ({"WORKERS": 8}, r"unknown setting BACKGROUND_TASKS\['WORKERS'\]; accepted are"),
    ({"MAX_WORKERS": 0}, r"BACKGROUND_TASKS\['MAX_WORKERS'\] accepts a whole number from 1, not 0"),
    ({"MAX_PENDING": "8"}, r"BACKGROUND_TASKS\['MAX_PENDING'\] accepts .*, not '8'"),
    ({"max_workers": 8}, "accepts names in upper case, not 'max_workers'"),
    ([("MAX_WORKERS", 8)], "BACKGROUND_TASKS accepts a dictionary"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_wrong_settings_are_refused(given: Any, said: str) -> None:
    with override_settings(BACKGROUND_TASKS=given):
        with pytest.raises(ImproperlyConfigured, match=said):
            get_runtime()
        with pytest.raises(ImproperlyConfigured, match=said):
            BackgroundTasksMiddleware(lambda _: HttpResponse())


def test_with_the_application_installed_they_are_refused_at_start_up() -> None:
    script = """
    from django.conf import settings
    import django
    settings.configure(INSTALLED_APPS=["bgadapters.django"], BACKGROUND_TASKS={"MAX_WORKERS": -1})
    django.setup()
    """
    code = "\n".join(line.strip() for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BACKGROUND_TASKS['MAX_WORKERS'] accepts a whole number from 1, not -1" in done.stderr


def test_overridden_settings_take_effect() -> None:
    with override_settings(BACKGROUND_TASKS={"MAX_WORKERS": 3, "ON_FULL": "reject"}):
        assert get_runtime().settings.max_workers == 3
        assert get_runtime() is get_runtime()
    assert get_runtime().settings.max_workers == 8
