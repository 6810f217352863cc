"""What is told of a task is told for its own request, as the task sees it."""

from __future__ import annotations

import gc
import logging
from typing import Any
from weakref import WeakSet

import pytest
from django.http import HttpResponse
from django.utils import timezone, translation

from bgadapters import TaskEvent, add_task
from bgadapters.django import background_tasks, signals
from tests.django.serving import Log, Site
from tests.whose import afail, fail, who


class Seen(logging.Handler):
    """A log handler that notes whose record it gets."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Note it."""
        self.log.append((record.levelname, who.get(), translation.get_language()))


@pytest.mark.parametrize("is_async_view", [False, True])
@pytest.mark.parametrize("task", [fail, afail])
def test_hooks_receivers_and_logs_see_what_the_task_sees(
    handler: Site, log: Log, task: Any, is_async_view: bool
) -> None:
    def hook(event: TaskEvent) -> None:
        zone = str(timezone.get_current_timezone())
        seen = event.kind, who.get(), translation.get_language(), zone, event.method, event.path
        log.append(seen)

    def receive(event: TaskEvent, **_: Any) -> None:
        log.append(("signal", event.kind, who.get(), translation.get_language()))

    def respond(request: Any) -> HttpResponse:
        who.set(request.headers["who"])
        with timezone.override("Asia/Tokyo"), translation.override("de"):
            add_task(task)
        if who.get() == "bob":
            raise LookupError
        return HttpResponse()

    async def arespond(request: Any) -> HttpResponse:
        return respond(request)

    view = background_tasks(arespond if is_async_view else respond)
    handler.serve(view, BACKGROUND_TASKS={"ON_EVENT": hook})
    records: Log = []
    seen = Seen(records)
    logging.getLogger("bgadapters").addHandler(seen)
    told = [signals.task_started, signals.task_failed, signals.task_discarded]
    for each in told:
        each.connect(receive)
    try:
        with translation.override("en"):
            handler.get(who="ada")
            handler.get(who="bob")
    finally:
        for each in told:
            each.disconnect(receive)
        logging.getLogger("bgadapters").removeHandler(seen)
    added = ("Asia/Tokyo", "GET", "/")
    assert log == [
        ("added", "ada", "de", *added),
        ("signal", "started", "ada", "de"),
        ("started", "ada", "de", *added),
        ("signal", "failed", "ada", "de"),
        ("failed", "ada", "de", *added),
        ("added", "bob", "de", *added),
        ("signal", "discarded", "bob", "de"),
        ("discarded", "bob", "de", *added),
    ]
    assert records == [("ERROR", "ada", "de"), ("WARNING", "bob", "de")]


@pytest.mark.parametrize("task", [fail, afail])
def test_nothing_of_a_request_is_alive_after_its_tasks(handler: Site, log: Log, task: Any) -> None:
    alive: WeakSet[Any] = WeakSet()

    @background_tasks
    def view(request: Any) -> HttpResponse:
        alive.add(request)
        request.background_tasks.add_task(task)
        return HttpResponse()

    handler.serve(view, BACKGROUND_TASKS={"ON_EVENT": lambda event: log.append(event.kind)})
    logging.disable(logging.CRITICAL)  # pytest keeps records
    for _ in range(2):
        handler.get()
    logging.disable(logging.NOTSET)
    gc.collect()
    assert log == ["added", "started", "failed"] * 2
    assert not alive
