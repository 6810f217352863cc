"""What is run by the worker."""

from __future__ import annotations

from django.utils import translation

from bgadapters import task_options
from tests.engines import work


@task_options()
def greet(name: str) -> None:
    """Say who was greeted, and in which language."""
    work.say("ran", f"{name} {translation.get_language()}")
