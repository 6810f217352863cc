"""Its views, and the tasks that they add."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from django.http import HttpResponse
from django.urls import path
from django.utils import timezone

from bgadapters import current_task
from tests.durable.work import write

framework = import_module("django.tasks" if find_spec("django.tasks") else "django_tasks")


def plain(name: str) -> None:
    """Write down that it was done, and that it is known which task this is."""
    found = current_task()
    assert found is not None
    write(f"attempt-{found.attempt}", name)


async def on_a_loop(name: str) -> None:
    await asyncio.sleep(0)
    write("loop", name)


def fail(name: str) -> None:
    write("fails", name)
    raise LookupError(name)


@framework.task(priority=5)  # type: ignore[untyped-decorator]
def own(name: str) -> None:
    """Is sent as itself, though its own backend is another one."""
    write("own", name)


def add(request: Any) -> HttpResponse:
    """Add one of each kind."""
    tasks = request.background_tasks.options(engine="tasks")
    tasks.add_task(plain, "first")
    tasks.add_task(on_a_loop, "second")
    tasks.add_task(fail, "third")
    tasks.add_task(own, "fourth")
    soon = tasks.options(run_after=timezone.now() + timedelta(hours=1))
    soon.add_task(plain, "in-an-hour")
    before = tasks.options(send="before_response", priority=3)
    before.add_task(plain, "before")
    return HttpResponse()


urlpatterns = [path("add", add)]
