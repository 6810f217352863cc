"""The settings, the checks, and what of Django a task finds as it was in its request."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections
from django.http import HttpResponse
from django.test import override_settings
from django.urls import get_script_prefix, get_urlconf, reverse, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from bgadapters import BackgroundTasks, add_task, drain
from bgadapters.django import BackgroundTasksMiddleware, HttpRequest, background_tasks
from bgadapters.django.runtime import get_runtime
from tests.django.serving import Site

Log = list[Any]

WRONG = [
    ({"WORKERS": 8}, r"unknown setting BACKGROUND_TASKS\['WORKERS'\]; accepted are"),
    ({"MAX_WORKERS": 0}, r"BACKGROUND_TASKS\['MAX_WORKERS'\] accepts a whole number from 1, not 0"),
    ({"MAX_PENDING": "8"}, r"BACKGROUND_TASKS\['MAX_PENDING'\] accepts .*, not '8'"),
    ({"max_workers": 8}, "accepts names in upper case, not 'max_workers'"),
    ([("MAX_WORKERS", 8)], "BACKGROUND_TASKS accepts a dictionary"),
]


@pytest.mark.parametrize(("given", "said"), WRONG)
def test_wrong_settings_are_refused(given: Any, said: str) -> None:
    with override_settings(BACKGROUND_TASKS=given):
        with pytest.raises(ImproperlyConfigured, match=said):
            get_runtime()
        with pytest.raises(ImproperlyConfigured, match=said):
            BackgroundTasksMiddleware(lambda _: HttpResponse())


def test_with_the_application_installed_they_are_refused_at_start_up() -> None:
    script = """
    from django.conf import settings
    import django
    settings.configure(INSTALLED_APPS=["bgadapters.django"], BACKGROUND_TASKS={"MAX_WORKERS": -1})
    django.setup()
    """
    code = "\n".join(line.strip() for line in script.splitlines())
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "BACKGROUND_TASKS['MAX_WORKERS'] accepts a whole number from 1, not -1" in done.stderr


def test_overridden_settings_take_effect() -> None:
    with override_settings(BACKGROUND_TASKS={"MAX_WORKERS": 3, "ON_FULL": "reject"}):
        assert get_runtime().settings.max_workers == 3
        assert get_runtime() is get_runtime()
    assert get_runtime().settings.max_workers == 8


@pytest.mark.parametrize(
    ("settings", "ids"),
    [
        ({}, []),
        (
            {
                "MIDDLEWARE": (
                    "bgadapters.django.BackgroundTasksMiddleware",
                    "bgadapters.django.middleware.BackgroundTasksMiddleware",
                )
            },
            ["bgadapters.W001"],
        ),
        (
            {"DATABASES": {"x": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}},
            ["bgadapters.W002"],
        ),
    ],
)
def test_checks(settings: Any, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings.items():
        monkeypatch.setattr(django_settings, name, value)
    found = [message.id for message in run_checks(databases=[])]
    assert [name for name in found if (name or "").startswith("bgadapters")] == ids


@pytest.mark.parametrize("view_is", ["sync", "async"])
@pytest.mark.parametrize("task_is", ["sync", "async"])
def test_language_time_zone_and_urls_are_the_requests(
    handler: Site, view_is: str, task_is: str
) -> None:
    log: Log = []

    def task() -> None:
        log.append(
            (translation.get_language(), str(timezone.get_current_timezone()), reverse("root"))
        )

    async def atask() -> None:
        await asyncio.sleep(0)
        task()

    def respond() -> HttpResponse:
        with timezone.override("Asia/Tokyo"):
            add_task(atask if task_is == "async" else task)
        return HttpResponse()

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        return respond()

    @background_tasks
    async def async_view(request: HttpRequest) -> HttpResponse:
        return respond()

    middleware = ["django.middleware.locale.LocaleMiddleware"]
    handler.serve(view if view_is == "sync" else async_view, MIDDLEWARE=middleware)
    with translation.override("en"):  # the middleware leaves its own in this thread
        handler.get(accept_language="de")
    assert log == [("de", "Asia/Tokyo", "/")]


@pytest.mark.parametrize("task_is", ["sync", "async"])
def test_what_a_task_sets_is_for_that_task(task_is: str) -> None:
    seen: Log = []

    def state() -> tuple[Any, ...]:
        zone = timezone.get_current_timezone_name()
        return translation.get_language(), zone, get_urlconf(), get_script_prefix()

    def task() -> None:
        seen.append(state())
        translation.activate("fr")
        timezone.activate("Asia/Tokyo")
        set_urlconf("tests.other")
        set_script_prefix("/other/")

    async def atask() -> None:
        task()

    def add() -> None:
        tasks.add_task(atask if task_is == "async" else task)

    tasks = BackgroundTasks(runtime=get_runtime())
    usual = state()
    add()
    with translation.override(None), timezone.override("Europe/Rome"):
        set_urlconf("tests.here")
        set_script_prefix("/here/")
        add()
        set_urlconf(None)
        set_script_prefix("/")
    add()
    tasks.release()
    drain()
    assert state() == usual
    assert seen == [usual, (None, "Europe/Rome", "tests.here", "/here/"), usual]


@pytest.mark.parametrize("task_is", ["sync", "async"])
def test_a_task_leaves_no_connection_open(handler: Site, task_is: str) -> None:
    """As after a request: with CONN_MAX_AGE 0 it is closed, in the thread that has used it."""
    log: Log = []

    def query() -> None:
        with connection.cursor() as cursor:
            cursor.execute("select 1")
            log.append(cursor.fetchone())
        used.append(connections["default"])

    async def aquery() -> None:
        from asgiref.sync import sync_to_async

        await sync_to_async(query)()

    used: list[Any] = []

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(aquery if task_is == "async" else query)
        return HttpResponse()

    handler.serve(view).get()
    assert log == [(1,)]
    assert [wrapper.connection for wrapper in used] == [None]


def test_the_asgi_application_shares_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``bgadapters.django.asgi`` the server's call is open while the tasks run."""
    from bgadapters.django import asgi
    from tests.gateways import asgi_calls

    log: Log = []

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(log.append, translation.get_language())
        return HttpResponse("body")

    async def main() -> None:
        client = asgi_calls.Client()
        scope = asgi_calls.http_scope("/", "GET", {})
        await client.request(asgi.get_asgi_application(), scope)
        assert client.body == b"body"
        assert log == ["en"]  # and nobody had to drain

    monkeypatch.setattr("django.setup", lambda **_: None)
    with Site(lambda *_: None) as site:  # type: ignore[arg-type]
        site.serve(view)
        asyncio.run(main())
    assert drain() == []


def test_a_connection_in_a_transaction_is_left_alone() -> None:
    """A test's own transaction, in whose thread an async task may query."""
    from django.db import transaction

    from bgadapters.django.databases import close_old_connections

    with transaction.atomic():
        close_old_connections()
        assert connection.connection is not None
    connection.close()
