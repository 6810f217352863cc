"""What durable tasks of the tests call: functions that can be found by their names."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

from django.utils import timezone, translation

from bgadapters import current_task, task_options
from bgadapters.django.durable.models import StoredTask

called: list[Any] = []
"""What they were called with, or what they have seen."""
seen: SimpleQueue[Any] = SimpleQueue()
"""The same, for who waits for it."""


@task_options(durable=True)
def note(what: Any) -> None:
    called.append(what)


@task_options(durable=True)
def look(alias: str) -> None:
    """Note whether this task is kept."""
    task = current_task()
    assert task is not None
    called.append(StoredTask.objects.using(alias).filter(id=task.id).exists())


@task_options(durable=True)
async def anote(what: Any) -> None:
    called.append(what)


@task_options(durable=True)
def fail() -> None:
    raise LookupError("no")


@task_options(durable=True)
def see_request() -> None:
    now = timezone.localtime(timezone.now())
    seen.put((translation.get_language(), str(now.tzinfo), now.utcoffset()))
