"""``bgadapters.enqueue`` in and outside of requests of Django."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import LazySettings
from django.db import transaction
from django.http import HttpResponse
from django.utils import translation

from bgadapters import drain, enqueue
from bgadapters.django import background_tasks
from tests.django import databases
from tests.django.databases import ALIASES
from tests.django.serving import Log, Site, body
from tests.our_log import OurLog


def test_in_a_request_it_adds_to_the_request_s_queue(everywhere: Site, log: Log) -> None:
    @background_tasks
    def view(request: Any) -> HttpResponse:
        request.background_tasks.add_task(log.append, "first")
        enqueue(log.append, "second")
        assert log == []
        return body()

    everywhere.serve(view).get()
    assert log == ["first", "second"]


@pytest.mark.parametrize("alias", ALIASES)
def test_elsewhere_it_waits_for_the_commit_as_a_task_of_the_framework_does(
    alias: str, log: Log
) -> None:
    with databases.table(alias) as table:
        with transaction.atomic(using=alias):
            enqueue(lambda: log.append(databases.numbers(alias, table)))
            databases.insert(alias, table, 1)
            assert log == []
        assert drain(10) == []
    assert log == [[1]]


def test_a_transaction_that_is_rolled_back_discards_it(log: Log, our_log: OurLog) -> None:
    with pytest.raises(LookupError), transaction.atomic():
        enqueue(log.append, "never")
        raise LookupError
    assert drain(10) == []
    assert log == []
    (warning,) = our_log.messages
    assert "their transaction was rolled back" in warning


def test_elsewhere_it_has_the_settings_and_the_language(log: Log, site: Site) -> None:
    site.set(BACKGROUND_TASKS={"ON_EVENT": lambda event: log.append(event.kind)})
    with translation.override("de"):
        enqueue(lambda: log.append(translation.get_language()))
    assert drain(10) == []
    assert log == ["added", "started", "de", "succeeded"]


def test_without_settings_it_is_no_task_of_django_s(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LazySettings, "configured", False)
    enqueue(log.append, "ran")
    assert drain(10) == []
    assert log == ["ran"]
