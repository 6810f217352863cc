"""Django's admin: who sees what, and who may do what."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.checks.registry import registry
from django.core.management import call_command
from django.db import connections
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import path, reverse

from bgadapters.adapters import Change, Row
from bgadapters.django.durable.models import StoredTask
from bgadapters.django.durable.opening import store_at
from tests.django.serving import HOSTS, Site

APPS = ["admin", "auth", "contenttypes", "messages", "sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]
TEMPLATES = {
    "BACKEND": "django.template.backends.django.DjangoTemplates",
    "APP_DIRS": True,
    "OPTIONS": {"context_processors": PROCESSORS},
}
PAYLOAD = '{"f": "shop:charge", "a": ["a <secret>"], "method": "POST", "path": "/orders"}'
FAILURE = '{"error": "ValueError: no <card>", "traceback": "Traceback\\n  here"}'


def settings_of(directory: Path) -> dict[str, Any]:
    from django.conf import settings

    for alias in ("default", "other"):
        connections.settings[alias]["NAME"] = str(directory / alias)
    connections.close_all()
    return {
        "BACKGROUND_TASKS": {"STORE": "django://other"},
        "INSTALLED_APPS": [*settings.INSTALLED_APPS, *(f"django.contrib.{app}" for app in APPS)],
        "MIDDLEWARE": MIDDLEWARE,
        "TEMPLATES": [TEMPLATES],
    }


@pytest.fixture(scope="module", autouse=True)
def _own_checks() -> Iterator[None]:
    """These applications register checks for the whole process, which fail without them."""
    names = "registered_checks", "deployment_checks"
    before = {name: set(getattr(registry, name)) for name in names}
    yield
    for name, checks in before.items():
        setattr(registry, name, checks)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Databases with all tables and one task of each kind, to be copied."""
    directory = tmp_path_factory.mktemp("made")
    usual = {alias: connections.settings[alias]["NAME"] for alias in ("default", "other")}
    with override_settings(**settings_of(directory)):
        call_command("migrate", verbosity=0)
        call_command("migrate", "bgadapters_durable", database="other", verbosity=0)
    connections.close_all()
    yield directory
    for alias, name in usual.items():
        connections.settings[alias]["NAME"] = name
    connections.close_all()


@pytest.fixture
def admin(made: Path, tmp_path: Path) -> Iterator[None]:
    """A site with an admin, whose store is another database than that of its users."""
    from django.conf import settings

    for each in made.iterdir():
        shutil.copy(each, tmp_path)
    with Site(HOSTS["client"]) as site:
        site.set(**settings_of(tmp_path))
        from django.contrib import admin as contrib

        site.serve(lambda request: HttpResponse())
        settings.ROOT_URLCONF.urlpatterns.append(path("admin/", contrib.site.urls))
        store = store_at("django://other")
        store.open("a")
        row: dict[str, Any] = {"queue_id": "q", "position": 0, "added": 1e9, "payload": PAYLOAD}
        store.write([Row(each, name="shop.charge", **row) for each in ("fails", "runs")], [])
        store.write([], [Change("fails", "fail", attempt=3, failure=FAILURE)])
        yield
        store.close()
    connections.close_all()


def client(*permissions: str, is_superuser: bool = False) -> Client:
    from django.contrib.auth.models import Permission, User

    user = User.objects.create(username="someone", is_staff=True, is_superuser=is_superuser)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    made = Client()
    made.force_login(user)
    return made


def text(reply: Any) -> str:
    assert reply.status_code == 200
    return str(reply.content.decode())


LIST = "/admin/bgadapters_durable/storedtask/"
ONE = f"{LIST}fails/change/"


def act(client: Client, action: str, *ids: str) -> list[str]:
    reply = client.post(LIST, {"action": action, "_selected_action": ids}, follow=True)
    found = re.findall(r'<li class="(?:success|warning|error)">(.*?)</li>', text(reply))
    return [str(each) for each in found]


def states() -> dict[str, str]:
    return dict(StoredTask.objects.using("other").values_list("id", "state"))


def test_who_may_view_tasks_sees_all_but_their_arguments(admin: None) -> None:
    assert reverse("admin:bgadapters_durable_storedtask_changelist") == LIST
    viewer = client("view_storedtask")
    listed = text(viewer.get(LIST))
    assert "shop.charge" in listed
    assert "ValueError: no &lt;card&gt;" in listed
    assert 'value="retry"' not in listed
    assert 'value="discard"' not in listed
    shown = text(viewer.get(ONE))
    assert "POST /orders" in shown
    assert "<pre>Traceback\n  here</pre>" in shown
    assert "secret" not in listed + shown
    assert 'name="_save"' not in shown
    assert act(viewer, "retry", "fails") == []
    assert act(viewer, "discard", "fails") == []
    assert states() == {"fails": "failed", "runs": "waiting"}


def test_arguments_take_a_permission_of_their_own(admin: None) -> None:
    shown = text(client("view_storedtask", "view_arguments").get(ONE))
    assert "a &lt;secret&gt;" in shown


def test_nothing_is_shown_without_a_permission(admin: None) -> None:
    nobody = client("view_arguments")
    assert nobody.get(LIST).status_code == 403
    assert nobody.get(ONE).status_code == 403


def test_failed_tasks_are_retried(admin: None) -> None:
    user = client("change_storedtask")
    assert act(user, "discard", "fails") == ["No action selected."]
    assert act(user, "retry", "fails", "runs") == ["1 of 2 task(s) to be run again"]
    assert states() == {"fails": "waiting", "runs": "waiting"}


def test_tasks_are_discarded_that_no_process_has(admin: None) -> None:
    user = client("delete_storedtask")
    assert act(user, "discard", "fails", "runs") == ["1 of 2 task(s) deleted"]
    assert states() == {"runs": "waiting"}


def test_nothing_can_be_added_edited_or_simply_deleted(admin: None) -> None:
    user = client(is_superuser=True)
    assert user.get(f"{LIST}add/").status_code == 403
    assert user.post(f"{LIST}fails/delete/", {"post": "yes"}).status_code == 403
    user.post(ONE, {"name": "changed"})
    assert "delete_selected" not in text(user.get(LIST))
    assert list(StoredTask.objects.using("other").values_list("name", flat=True)) == [
        "shop.charge",
        "shop.charge",
    ]
