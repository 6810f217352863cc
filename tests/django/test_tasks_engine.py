"""Backends of Django's tasks framework as engines: without a server, and with one in a database."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from bgadapters import BackgroundTasks, task_options
from bgadapters.adapters import Runtime, Settings
from bgadapters.engines.django_tasks import DjangoTasksEngine
from tests.core.ways import PATIENCE
from tests.durable.work import JOURNAL, lines
from tests.our_log import OurLog
from tests.running import ROOT

NAME = "django.tasks" if find_spec("django.tasks") else "django_tasks"
tasks = import_module(NAME)
base = import_module(f"{NAME}.backends.base")
ran: list[Any] = []


class Backend(base.BaseTaskBackend):  # type: ignore[misc, name-defined]
    """Notes what is enqueued; or its broker is away."""

    supports_defer = True
    supports_priority = True
    enqueued: list[Any] = []  # noqa: RUF012  of all of them
    raises: BaseException | None = None

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        if self.raises is not None:
            raise self.raises
        self.enqueued.append((task, args, kwargs))


class OurBackend(
    import_module(  # type: ignore[misc]
        f"bgadapters.django.{'tasks' if NAME == 'django.tasks' else 'tasks_backport'}"
    ).PostResponseBackend
):
    """Ours, in the disguise of a subclass."""


class TellsAway(Exception):
    """What a library raises whose broker is away."""


ALIASES = {
    "default": {"BACKEND": f"{NAME}.backends.immediate.ImmediateBackend"},
    "noted": {"BACKEND": f"{__name__}.Backend", "QUEUES": ["mail", "other"]},
    "dummy": {"BACKEND": f"{NAME}.backends.dummy.DummyBackend"},
    "ours": {"BACKEND": f"{OurBackend.__mro__[1].__module__}.PostResponseBackend"},
    "disguised": {"BACKEND": f"{__name__}.OurBackend"},
}


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    ran.clear()
    Backend.enqueued.clear()
    Backend.raises = None
    with override_settings(TASKS=ALIASES):
        yield


@task_options()
def note(*what: Any) -> None:
    ran.append(what)


@task_options()
async def anote(*what: Any) -> None:
    ran.append(what)


@task_options()
def fail() -> None:
    raise LookupError("for good")


Add = Callable[..., list[str]]


@pytest.fixture
def add() -> Add:
    """Adds a task in a response of its own; returns what has become of it."""

    def add(engine: Any, func: Any, *args: Any, _options: Any = None, **kwargs: Any) -> list[str]:
        kinds: list[str] = []
        runtime = Runtime(
            Settings(
                engines={"there": engine},
                on_event=lambda event: kinds.append(event.kind),
                name="tests",
            )
        )
        engine.bind(runtime)
        options: dict[str, Any] = {"engine": "there", **(_options or {})}
        with BackgroundTasks(runtime=runtime) as queue:
            queue.options(**options).add_task(func, *args, **kwargs)
            if queue.batch.unconfirmed is not None:
                queue.confirm()
        assert runtime.drain(PATIENCE) == []
        return [kind for kind in kinds if kind not in {"added", "started"}]

    return add


def test_functions_run_by_one_task(add: Add) -> None:
    """The backend that runs tasks at once shows both ends."""
    assert add(DjangoTasksEngine(), note, 1, "ü") == ["succeeded", "sent"]
    assert add(DjangoTasksEngine(), anote, 2) == ["succeeded", "sent"]
    assert ran == [(1, "ü"), (2,)]


def test_what_fails_there_was_sent_all_the_same(add: Add, our_log: OurLog) -> None:
    assert add(DjangoTasksEngine(), fail) == ["failed", "sent"]


def test_options_are_those_of_the_framework(add: Add) -> None:
    due = datetime(2100, 1, 1, tzinfo=UTC)
    engine = DjangoTasksEngine("noted")
    assert add(engine, note, _options={"run_after": due, "priority": 7}) == ["sent"]
    add(DjangoTasksEngine("noted", queue="other"), note)
    (first, args, _), (second, _, _) = Backend.enqueued
    assert (first.run_after, first.priority, first.queue_name) == (due, 7, "mail")
    assert (second.run_after, second.priority, second.queue_name) == (None, 0, "other")
    assert first.module_path == "bgadapters.engines.django_tasks.run"
    assert '"f":"tests.django.test_tasks_engine:note"' in args[0]


def test_a_worker_finds_the_task_by_its_path() -> None:
    from django.utils.module_loading import import_string

    engine = DjangoTasksEngine("noted")
    found = import_string("bgadapters.engines.django_tasks.run")
    assert found.using(backend="noted", queue_name="mail").func is engine.task().func


@tasks.task  # type: ignore[untyped-decorator]
def own(what: str = "") -> None:
    ran.append(what)


def test_its_tasks_are_sent_as_themselves(add: Add) -> None:
    Backend.queues = set()
    assert add(DjangoTasksEngine(), own, "x") == ["sent"]
    assert ran == ["x"]
    other = own.using(priority=3)
    with override_settings(TASKS={**ALIASES, "noted": {"BACKEND": f"{__name__}.Backend"}}):
        assert add(DjangoTasksEngine("noted"), other, what="y") == ["sent"]
    ((task, args, kwargs),) = Backend.enqueued
    assert (task.func, task.backend, task.priority, args, kwargs) == (
        own.func,
        "noted",
        3,
        (),
        {"what": "y"},
    )


@pytest.mark.parametrize(
    ("alias", "func", "options", "says"),
    [
        ("default", note, {"delay": 1}, "DjangoTasksEngine has no delay"),
        ("noted", note, {"retries": 1}, "DjangoTasksEngine has no retries"),
        ("noted", note, {"key": "a"}, "DjangoTasksEngine has no key"),
        ("noted", note, {"send": "in_transaction"}, "takes no part in transactions"),
        ("noted", own, {"timeout": 1}, "which has none"),
        ("noted", own, {}, "Queue 'default' is not valid"),
        ("disguised", note, {}, "would be sent and come back"),
    ],
)
def test_what_it_cannot_do_is_refused_at_add_task(
    add: Add, alias: str, func: Any, options: Any, says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        add(DjangoTasksEngine(alias), func, _options=options)


def test_arguments_that_are_no_json_are_refused_at_add_task(add: Add) -> None:
    with pytest.raises(TypeError, match="no JSON"):
        add(DjangoTasksEngine(), own, object())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"alias": "nowhere"}, "'default', 'noted'"),
        ({"alias": "ours"}, "would be sent and come back"),
        ({"away": [3]}, "types of exceptions"),
        ({"away": ["nowhere.Error"]}, "types of exceptions"),
    ],
)
def test_what_it_does_not_accept_is_refused(given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        DjangoTasksEngine(**given)


@pytest.mark.parametrize("error", [ConnectionError("no"), TellsAway("no"), ValueError("no")])
def test_a_backend_that_is_away_is_told_from_one_that_refuses(
    add: Add, our_log: OurLog, error: Exception
) -> None:
    Backend.raises = error
    engine = DjangoTasksEngine("noted", away=[f"{__name__}.TellsAway"], patience=0.0)
    is_away = not isinstance(error, ValueError)
    assert add(engine, note) == (["engine_down", "failed"] if is_away else ["failed"])


# With the backend django-tasks-db.

needs_django_tasks_db = pytest.mark.skipif(
    find_spec("django_tasks_db") is None, reason="django-tasks-db is not installed"
)


@needs_django_tasks_db
@pytest.mark.parametrize("how", ["wsgi", "asgi"])
def test_a_backend_in_a_database_and_its_worker(tmp_path: Path, how: str) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    environ = {
        **os.environ,
        "TEST_DATABASE": str(tmp_path / "database"),
        "DJANGO_SETTINGS_MODULE": "tests.engines.django_tasks_site.settings",
        "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
        JOURNAL: str(journal),
    }

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=environ,
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    python("django", "migrate", "--verbosity", "0")
    python("tests.engines.django_tasks_site.serve", how)
    assert lines(journal) == []
    python("django", "db_worker", "--batch", "--backend", "database", "--no-startup-delay")
    found = sorted((line.kind, line.name) for line in lines(journal))
    assert found == [
        ("attempt-1", "before"),
        ("attempt-1", "first"),
        ("fails", "third"),
        ("loop", "second"),
        ("own", "fourth"),
    ]
    shell = python("django", "shell", "-c", STATUSES).splitlines()[-1]
    assert shell == "FAILED READY SUCCESSFUL SUCCESSFUL SUCCESSFUL SUCCESSFUL"


STATUSES = (
    "from django_tasks_db.models import DBTaskResult; "
    "print(*sorted(DBTaskResult.objects.values_list('status', flat=True)))"
)
