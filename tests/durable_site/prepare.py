"""Sets Django up in a process that a test has started."""

from __future__ import annotations

import os

import django


def prepare() -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.durable_site.settings"
    django.setup()
