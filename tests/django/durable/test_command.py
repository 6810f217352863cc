"""``manage.py background_tasks`` with an action, and the checks of a store in Django's database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import override_settings

from bgadapters.adapters import Change, Row, SettingsError
from bgadapters.django.durable.models import StoredTask
from bgadapters.django.durable.opening import store_at
from bgadapters.django.durable.place import Place, parsed
from tests.django.serving import HOSTS, Site


def command(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command("background_tasks", *arguments, stdout=out, **options)
    return out.getvalue()


@pytest.fixture
def kept(default: str) -> Iterator[None]:
    """A task that has failed, and one that runs elsewhere."""
    store = store_at("django")
    store.open("a")
    row: dict[str, Any] = {"queue_id": "q", "position": 0, "added": 1e9}
    payload = '{"f": "shop:charge", "a": ["secret"]}'
    rows = [Row(each, name="shop.charge", payload=payload, **row) for each in ("fails", "runs")]
    store.write(rows, [])
    store.write([], [Change("fails", "fail", attempt=2, failure='{"error": "ValueError: no"}')])
    with override_settings(BACKGROUND_TASKS={"STORE": "django"}):
        yield
    store.close()


def test_stored_tasks_are_counted_listed_and_shown(kept: None) -> None:
    assert command("count") == "waiting: 1\nfailed: 1\n"
    lines = command("list").splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("fails  failed ")
    assert lines[0].endswith("ValueError: no")
    shown = json.loads(command("show", "fails", "--json"))
    assert (shown["state"], shown["error"]) == ("failed", "ValueError: no")
    assert "secret" not in command("list") + command("show", "fails")
    assert "secret" in command("show", "fails", "--arguments")


def test_stored_tasks_are_retried_discarded_and_purged(kept: None) -> None:
    assert command("retry", "--all-failed") == "retried: 1 of 1\n"
    assert command("discard", "fails") == "discarded: 1 of 1\n"
    with pytest.raises(SystemExit) as ended:
        command("discard", "runs")  # a process has it
    assert ended.value.code == 1
    assert command("purge", "--older-than", "30d") == "purged: 0\n"
    assert [each.id for each in StoredTask.objects.all()] == ["runs"]


def test_without_an_action_it_prints_the_settings(kept: None) -> None:
    assert "STORE = 'django'  (BACKGROUND_TASKS)" in command()


def test_without_a_store_there_is_nothing_to_act_on() -> None:
    with pytest.raises(CommandError, match="no 'STORE'"):
        command("list")


def test_what_makes_no_sense_is_refused(kept: None) -> None:
    with pytest.raises(CommandError, match="retry wants ids"):
        command("retry")


def test_urls() -> None:
    assert parsed("django") == Place("default", 30.0)
    assert parsed("django://other") == Place("other", 30.0)
    assert parsed("django://?lease=2.5") == Place("default", 2.5)


@pytest.mark.parametrize(
    "url",
    [
        "django:other",
        "django:/other",
        "django://other/path",
        "django://other?lease=0",
        "django://other?lease=x",
        "django://other?leese=5",
        "django://other#part",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(SettingsError, match="accepted are 'django' and 'django://alias'"):
        store_at(url)


def test_an_alias_that_is_not_there_is_refused_at_start() -> None:
    with Site(HOSTS["client"]) as site:
        site.set(BACKGROUND_TASKS={"STORE": "django://nowhere"})
        with pytest.raises(SettingsError, match=r"no database 'nowhere'.* DATABASES has 'default'"):
            store_at("django://nowhere")
        with pytest.raises(ImproperlyConfigured, match="no database 'nowhere'"):
            apps.get_app_config("bgadapters").ready()


def test_the_application_is_asked_for_at_start() -> None:
    installed = [each for each in settings.INSTALLED_APPS if not each.endswith("durable")]
    with Site(HOSTS["client"]) as site:
        site.set(BACKGROUND_TASKS={"STORE": "django"})
        with (
            pytest.raises(ImproperlyConfigured, match=r"add 'bgadapters.django.durable' to INST"),
            override_settings(INSTALLED_APPS=installed),
        ):
            raise AssertionError
        site.set(BACKGROUND_TASKS={})
        site.set(INSTALLED_APPS=installed)
        with pytest.raises(SettingsError, match=r"add 'bgadapters.django.durable' to INST"):
            store_at("django")


def test_a_database_that_was_not_migrated_is_told_of(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(connections.settings["other"], "NAME", str(tmp_path / "empty"))
    connections.close_all()
    with override_settings(BACKGROUND_TASKS={"STORE": "django://other"}):
        found = run_checks(tags=["database"], databases=["default", "other"])
        assert [each.id for each in found] == ["bgadapters.W008"]
        assert found[0].hint == "Run 'manage.py migrate --database other'."
        assert "bgadapters.W008" in command(databases=["other"])
        store = store_at("django://other")
        with pytest.raises(SettingsError, match=r"run 'manage.py migrate --database other'"):
            store.open("a")
        call_command("migrate", "bgadapters_durable", database="other", verbosity=0)
        assert run_checks(tags=["database"], databases=["other"]) == []
        store.open("a")
        store.close()
    connections.close_all()


def test_the_migration_is_that_of_the_models() -> None:
    call_command("makemigrations", "bgadapters_durable", check=True, dry_run=True, verbosity=0)
