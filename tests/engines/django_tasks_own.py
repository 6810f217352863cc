"""A task of Django's framework, or of its backport."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from tests.engines import work

NAME = "django.tasks" if find_spec("django.tasks") else "django_tasks"


@import_module(NAME).task  # type: ignore[untyped-decorator]
def own(what: str) -> None:
    work.say("own", what)
