"""What a process has left behind that has ended runs in another one, which serves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone, translation

from bgadapters.core.outbox.outbox import Outbox, outbox_of
from bgadapters.django import background_tasks
from bgadapters.django.durable.models import Owner, StoredTask
from bgadapters.django.runtime import get_runtime
from tests.django.durable.functions import called, note, see_request, seen
from tests.django.serving import Site, URLConf
from tests.gateways import asgi_calls


@background_tasks
def empty(request: Any) -> HttpResponse:
    return HttpResponse()


@pytest.fixture
def left_behind(handler: Site, alias: str) -> Iterator[Any]:
    """Have a view add tasks that another process finds; its own has ended with SIGKILL."""

    runtimes: list[Any] = []

    def leave(view: Any) -> None:
        handler.serve(background_tasks(view), BACKGROUND_TASKS={"STORE": f"django://{alias}"})
        assert handler.get().status == 200
        runtimes.append(get_runtime())
        Owner.objects.using(alias).update(expires=0.0)
        StoredTask.objects.using(alias).update(due=None)
        handler.serve(empty, BACKGROUND_TASKS={"STORE": f"django://{alias}?lease=60"})

    yield leave
    get_runtime().drain()
    for each in [get_runtime(), *runtimes]:
        each.close()


def later(request: Any) -> Any:
    return request.background_tasks.options(delay=3600)


@pytest.mark.parametrize(
    ("zone", "told", "offset"),
    [
        (ZoneInfo("Asia/Tokyo"), "Asia/Tokyo", timedelta(hours=9)),
        (timezone.get_fixed_timezone(-210), "-0330", -timedelta(minutes=210)),
        (None, "UTC", timedelta(0)),
    ],
)
def test_recovered_tasks_see_language_and_time_zone(
    handler: Site, left_behind: Any, zone: Any, told: str, offset: timedelta
) -> None:
    def view(request: Any) -> HttpResponse:
        with translation.override("de"), timezone.override(zone):
            later(request).add_task(see_request)
        return HttpResponse()

    left_behind(view)
    assert handler.get().status == 200
    assert seen.get(timeout=20) == ("de", told, offset)


def test_a_request_for_any_view_has_them_recovered(handler: Site, left_behind: Any) -> None:
    """A health check of its own has neither the decorator nor a queue."""

    def view(request: Any) -> HttpResponse:
        later(request).add_task(see_request)
        return HttpResponse()

    left_behind(view)
    handler.set(ROOT_URLCONF=URLConf({"": lambda _: HttpResponse()}))
    assert handler.get().status == 200
    assert seen.get(timeout=20)


def test_async_tasks_are_recovered_on_the_loop_of_the_server(
    default: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django tells of a request in a thread beside that loop."""

    async def main() -> Any:
        client = asgi_calls.Client()
        await client.request(ASGIHandler(), asgi_calls.http_scope("/", "GET", {}))
        assert client.status == 200
        return asyncio.get_running_loop()

    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(lambda _: HttpResponse(), BACKGROUND_TASKS={"STORE": "django"})
        served: list[Any] = []
        monkeypatch.setattr(Outbox, "serve", lambda _, loop: served.append(loop))
        loop = asyncio.run(main())
        assert served == [loop]
        get_runtime().close()


def test_a_test_client_recovers_nothing(default: str) -> None:
    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(empty, BACKGROUND_TASKS={"STORE": "django"})
        assert Client().get("/").status_code == 200
        assert not outbox_of(get_runtime()).serves
        get_runtime().close()


def test_nothing_is_carried_that_is_as_everywhere(left_behind: Any, alias: str) -> None:
    def view(request: Any) -> HttpResponse:
        later(request).add_task(see_request)
        return HttpResponse()

    left_behind(view)
    (row,) = StoredTask.objects.using(alias).all()
    assert "carried" not in row.payload


def test_a_command_recovers_nothing(default: str) -> None:
    """Only who serves does: a queue made by hand opens the store for its own tasks alone."""
    from bgadapters.django import BackgroundTasks

    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.set(BACKGROUND_TASKS={"STORE": "django"})
        called.clear()
        row = {"queue_id": "q", "position": 0, "added": 1.0, "priority": 0, "attempt": 1}
        StoredTask.objects.create(
            id="left", payload="{}", name="f", crashes=0, is_recovered=False, state="waiting", **row
        )
        with BackgroundTasks() as tasks:
            tasks.add_task(note, 1)
        get_runtime().drain()
        assert called == [1]
        (left,) = StoredTask.objects.all()
        assert (left.id, left.state, left.owner) == ("left", "waiting", None)
        get_runtime().close()
