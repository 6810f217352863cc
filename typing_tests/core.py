"""Checked, never run: the core's ``add_task`` takes the arguments of the function it is given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any, assert_type

from bgadapters import (
    BackgroundTasks,
    TaskEvent,
    TaskInfo,
    TaskMiddleware,
    TaskOptions,
    add_task,
    adrain,
    drain,
    task_options,
)
from bgadapters.asgi import BackgroundTasksMiddleware as ASGIMiddleware
from bgadapters.wsgi import BackgroundTasksMiddleware as WSGIMiddleware


def write_notification(email: str, message: str = "") -> None: ...


async def send_welcome(email: str, *, copies: int) -> bool:
    return bool(email) and copies > 0


def right(tasks: BackgroundTasks) -> None:
    add_task(write_notification, "a@b.example", message="hello")
    add_task(lambda: None)
    assert_type(tasks.add_task(send_welcome, "a@b.example", copies=2), None)
    tasks.options(always=True, name="welcome").add_task(send_welcome, "a@b.example", copies=2)
    tasks.options().options(name=None).add_task(print, "anything", 1, sep="")
    with BackgroundTasks() as block:
        assert_type(block, BackgroundTasks)
    assert_type(drain(1), list[str])


async def right_on_a_loop() -> None:
    async with BackgroundTasks() as block:
        assert_type(block, BackgroundTasks)
    assert_type(await adrain(), list[str])


def hook(event: TaskEvent) -> None:
    assert_type(event.task.name, str)
    assert_type(event.exception, BaseException | None)


class Tenant(TaskMiddleware):
    def capture(self, task: TaskInfo) -> str:
        return assert_type(task.name, str)

    @contextmanager
    def around(self, task: TaskInfo, captured: str) -> Iterator[None]:
        yield


class OfNoTypeOfOurs:
    def capture(self, task: TaskInfo) -> None: ...

    def around(self, task: TaskInfo, captured: Any) -> AbstractContextManager[None]:
        return nullcontext()


@contextmanager
def timed(task: TaskInfo) -> Iterator[None]:
    yield


@asynccontextmanager
async def traced(task: TaskInfo) -> AsyncIterator[None]:
    yield


def right_settings(app: ASGIMiddleware) -> None:
    ASGIMiddleware(
        app, task_middleware=[Tenant, Tenant(), OfNoTypeOfOurs(), timed, traced, "shop.Tenant"]
    )
    ASGIMiddleware(app, task_middleware=[Tenant])
    ASGIMiddleware(app, task_middleware=[timed])


patient = TaskOptions(retries=5, backoff=lambda attempt, exception: 2.0 * attempt, timeout=10)


@task_options(patient, retry_on=(OSError, TimeoutError), concurrency="webhooks")
async def send_later(email: str) -> None: ...


def with_options(tasks: BackgroundTasks) -> None:
    tasks.options(patient).add_task(send_later, "a@b.example")
    tasks.options(patient, delay=60, key="x").options(priority=5).add_task(send_later, "x")
    tasks.options(durable=True, session=object()).add_task(send_later, "a@b.example")
    tasks.options(run_after=datetime.now(UTC), retry_on=lambda exc: "503" in str(exc))
    add_task(send_later, email="a@b.example")


def wrong(tasks: BackgroundTasks) -> None:
    add_task(write_notification, 1)  # type: ignore[arg-type]
    add_task(write_notification, "a@b.example", text="hello")  # type: ignore[call-arg]
    tasks.add_task(send_welcome, "a@b.example")  # type: ignore[call-arg]
    tasks.add_task(send_welcome, "a@b.example", copies="2")  # type: ignore[arg-type]
    tasks.add_task(None)  # type: ignore[arg-type]
    tasks.options(always=True).add_task(write_notification)  # type: ignore[call-arg]
    tasks.options(always=1).add_task(write_notification, "x")  # type: ignore[arg-type]
    tasks.options(durable="yes")  # type: ignore[arg-type]
    tasks.options(retry=3)  # type: ignore[call-arg]
    tasks.options(retries="3")  # type: ignore[arg-type]
    tasks.options(retry_on=SystemExit)  # type: ignore[arg-type]
    tasks.options(patient, run_on="never")  # type: ignore[arg-type]
    task_options(retries=1)(write_notification)(1)  # type: ignore[arg-type]
    TaskOptions(limit=1)  # type: ignore[call-arg]


def wrong_settings(app: ASGIMiddleware) -> None:
    ASGIMiddleware(app, max_workers=8, on_full="reject", on_error=hook)
    ASGIMiddleware(app, store="sqlite:///tasks.db", task_modules=["shop."])
    ASGIMiddleware(app, task_modules=[1])  # type: ignore[list-item]
    ASGIMiddleware(app, max_workers="8")  # type: ignore[arg-type]
    ASGIMiddleware(app, on_full="wait")  # type: ignore[arg-type]
    ASGIMiddleware(app, task_middleware=[hook])  # type: ignore[list-item]
    ASGIMiddleware(app, task_middleware=[1])  # type: ignore[list-item]
    WSGIMiddleware(lambda _, __: [], workers=8)  # type: ignore[call-arg]
