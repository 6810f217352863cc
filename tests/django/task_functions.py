"""Functions of tasks: those of the frameworks have to be at the level of a module."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from django.utils.translation import get_language

from bgadapters import task_options
from tests.core.ways import PATIENCE

log: list[Any] = []
started = threading.Event()
go_on = threading.Event()
enqueue: list[Any] = []  # tasks that ``nest`` enqueues


def note(what: Any, **more: Any) -> Any:
    log.append(what)
    return {"noted": what, **more}


async def anote(what: Any, **more: Any) -> Any:
    await asyncio.sleep(0)
    return note(what, **more)


def fail(message: str) -> None:
    raise LookupError(message)


async def afail(message: str) -> None:
    raise LookupError(message)


def interrupt() -> None:
    raise KeyboardInterrupt


def unserializable() -> Any:
    return object()


async def aunserializable() -> Any:
    return object()


def with_context(context: Any, what: str) -> Any:
    result = context.task_result
    log.append((what, str(result.status), context.attempt))
    return result.id


async def awith_context(context: Any, what: str) -> Any:
    return with_context(context, what)


def change(argument: list[int]) -> list[int]:
    argument.append(2)
    return argument


def hold() -> str:
    started.set()
    assert go_on.wait(PATIENCE)
    return "held"


async def hang() -> None:
    started.set()
    await asyncio.Event().wait()


def nest() -> None:
    log.append("nest begins")
    for task in enqueue:
        task.enqueue("nested")
    log.append("nest ends")


def language() -> Any:
    log.append(get_language())
    return threading.current_thread().name


failures: list[Exception] = []


@task_options(retries=2, backoff=0.001)
def flaky(what: str) -> str:
    if failures:
        raise failures.pop()
    log.append(what)
    return what


@task_options(retries=2, backoff=0.001)
async def aflaky(what: str) -> str:
    await asyncio.sleep(0)
    return flaky(what)
