"""Functions that may be called out of a store: what they do, the tests read here."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from bgadapters import add_task, current_task, task_options

happened: list[Any] = []
began, may_go_on = threading.Event(), threading.Event()
failures: list[BaseException] = []


def note(what: Any) -> None:
    happened.append(what)


async def anote(what: Any) -> None:
    await asyncio.sleep(0)
    happened.append((what, id(asyncio.get_running_loop())))


def fail(what: Any = None) -> None:
    if failures:
        raise failures.pop(0)
    happened.append(what)


def wait(what: Any) -> None:
    happened.append(what)
    began.set()
    may_go_on.wait(10.0)


def add_another(what: Any) -> None:
    add_task(note, what)


def tell_of_itself() -> None:
    task = current_task()
    assert task is not None
    happened.append((task.id, task.queue_id, task.attempt, task.path, task.method))


@task_options(retries=2, backoff=0.0)
def marked(what: Any) -> None:
    happened.append(what)


@task_options(durable=True)
def durable() -> None: ...


class Callable:
    def __call__(self) -> None: ...


an_object = Callable()


def lazy(what: Any) -> Any:
    return anote(what)


async def lazy_note(what: Any) -> None:
    await asyncio.sleep(0)
    happened.append(what)
