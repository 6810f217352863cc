"""Looking at what a store keeps and acting on it: the class, and the command line on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bgadapters.__main__ import main
from bgadapters.adapters import Runtime, Settings, SettingsError, StoreUnavailableError
from bgadapters.stores import Change, Row, StoredTasks
from bgadapters.stores.sqlite import SQLiteStore

ROOT = Path(__file__).parents[2]
NOW = time.time()
WAITING = Row(
    "a-waiting",
    "queue",
    0,
    NOW - 60,
    '{"f":"shop:send","a":["ada@example.org"],"method":"POST","path":"/orders"}',
    "send",
    key="ada",
    priority=2,
    due=NOW + 60,
    attempt=2,
)
FAILED = Row("b-failed", "queue", 1, NOW - 50, '{"f":"shop:charge","k":{"order":7}}', "charge")
FAILURE = (
    '{"error":"ValueError: no\\nmoney","traceback":"Traceback:\\n  in charge\\n","reason":"r"}'
)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """A store that a process has which keeps one task of each state."""
    url = f"sqlite:///{tmp_path}/tasks.db"
    store = SQLiteStore(url)
    store.open("owner")
    store.write([WAITING, FAILED], [])
    store.write([], [Change(FAILED.id, "fail", 3, failure=FAILURE)])
    yield url
    store.close()


@pytest.fixture
def tasks(url: str) -> StoredTasks:
    """What looks at it."""
    return StoredTasks(url)


def test_it_counts(tasks: StoredTasks) -> None:
    assert tasks.count() == {"waiting": 1, "failed": 1}
    tasks.discard(["b-failed"])
    assert tasks.count() == {"waiting": 1, "failed": 0}


def test_a_waiting_task_says_all_of_itself(tasks: StoredTasks) -> None:
    (found,) = tasks.list("waiting")
    assert found == tasks.show("a-waiting")
    assert found._asdict() == {
        "id": "a-waiting",
        "name": "send",
        "state": "waiting",
        "attempts": 1,  # the second is to come
        "crashes": 0,
        "added": datetime.fromtimestamp(NOW - 60, UTC),
        "due": datetime.fromtimestamp(NOW + 60, UTC),
        "ended": None,
        "key": "ada",
        "priority": 2,
        "method": "POST",
        "path": "/orders",
        "error": None,
        "traceback": None,
        "reason": None,
        "arguments": None,
    }


def test_a_failed_task_says_why(tasks: StoredTasks) -> None:
    found = tasks.show("b-failed")
    assert found is not None
    assert (found.state, found.attempts, found.reason) == ("failed", 3, "r")
    assert found.error == "ValueError: no\nmoney"
    assert found.traceback == "Traceback:\n  in charge\n"
    assert found.ended is not None
    assert abs(found.ended.timestamp() - time.time()) < 60


def test_arguments_are_told_when_asked_for(tasks: StoredTasks) -> None:
    told = [each.arguments for each in tasks.list(arguments=True)]
    assert told == [
        {"args": ["ada@example.org"], "kwargs": {}},
        {"args": [], "kwargs": {"order": 7}},
    ]
    shown = tasks.show("b-failed", arguments=True)
    assert shown is not None
    assert shown.arguments == told[1]


@pytest.mark.parametrize("payload", ["", "[]", "no json"])
def test_what_cannot_be_read_is_listed_all_the_same(tmp_path: Path, payload: str) -> None:
    store = SQLiteStore(f"sqlite:///{tmp_path}/tasks.db")
    store.open("owner")
    store.write([WAITING._replace(payload=payload)], [])
    (found,) = StoredTasks(store).list(arguments=True)
    assert (found.id, found.path, found.arguments) == ("a-waiting", None, None)
    store.close()


def test_the_oldest_are_listed_first_page_by_page(tasks: StoredTasks) -> None:
    assert [each.id for each in tasks.list()] == ["a-waiting", "b-failed"]
    assert [each.id for each in tasks.list(limit=1)] == ["a-waiting"]
    assert [each.id for each in tasks.list(limit=1, offset=1)] == ["b-failed"]
    assert tasks.list(limit=0) == []


def test_a_retried_task_waits_as_if_it_was_never_tried(tasks: StoredTasks) -> None:
    assert tasks.retry(["b-failed", "a-waiting", "nowhere"]) == 1
    found = tasks.show("b-failed")
    assert found is not None
    assert (found.state, found.attempts, found.error, found.ended) == ("waiting", 0, None, None)


def test_what_a_process_has_is_not_discarded(tasks: StoredTasks) -> None:
    assert tasks.discard(iter(["a-waiting", "b-failed"])) == 1
    assert [each.id for each in tasks.list()] == ["a-waiting"]
    assert tasks.show("b-failed") is None


def test_a_purge_looks_at_the_age_of_the_failure(tasks: StoredTasks) -> None:
    assert tasks.purge(timedelta(hours=1)) == 0
    assert tasks.purge(timedelta(0)) == 1
    assert tasks.count() == {"waiting": 1, "failed": 0}


def test_an_application_knows_its_store(url: str) -> None:
    assert StoredTasks(Runtime(Settings(store=url))).count()["failed"] == 1


@pytest.mark.parametrize("store", [None, 7, Runtime()])
def test_what_is_no_store_is_refused(store: Any) -> None:
    with pytest.raises(SettingsError, match="accepts the URL of a store, a store, or the Runtime"):
        StoredTasks(store)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda tasks: tasks.list("running"), "accepts 'waiting' or 'failed' or None"),
        (lambda tasks: tasks.list(limit=-1), "limit accepts a number from 0, not -1"),
        (lambda tasks: tasks.list(offset=-1), "offset accepts a number from 0, not -1"),
        (lambda tasks: tasks.purge(timedelta(-1)), "older_than accepts a time from 0"),
        (lambda tasks: tasks.retry("b-failed"), "'b-failed': put it in a list"),
        (lambda tasks: tasks.discard("b-failed"), "'b-failed': put it in a list"),
    ],
)
def test_wrong_use_is_refused(
    tasks: StoredTasks, call: Callable[[StoredTasks], object], said: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=said):
        call(tasks)


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(url: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return its exit code and what it has printed."""

    def run(*arguments: str) -> tuple[int, str]:
        code = main(["tasks", "--store", url, *arguments])
        said = capsys.readouterr()
        return code, said.out + said.err

    return run


def test_the_command_counts(run: Run) -> None:
    assert run("count") == (0, "waiting: 1\nfailed: 1\n")
    code, said = run("count", "--json")
    assert (code, json.loads(said)) == (0, {"waiting": 1, "failed": 1})


def test_the_command_lists_a_task_a_line(run: Run) -> None:
    code, said = run("list")
    first, second = said.splitlines()
    assert code == 0
    assert first.startswith("a-waiting  waiting  20")
    assert first.endswith("  1 attempt(s)  send")
    assert second.endswith("  3 attempt(s)  charge  - ValueError: no\\x0amoney")
    assert "ada@" not in said
    assert run("list", "--state", "failed", "--offset", "1") == (0, "")
    assert "ada@example.org" in run("list", "--arguments", "--limit", "1")[1]


def test_the_command_shows_all_of_a_task(run: Run) -> None:
    code, said = run("show", "b-failed")
    assert code == 0
    assert "error: ValueError: no\\x0amoney\n" in said
    assert said.endswith("  Traceback:\n    in charge\n")
    assert "arguments" not in said
    assert (
        'arguments: {"args": [], "kwargs": {"order": 7}}\n'
        in run("show", "b-failed", "--arguments")[1]
    )
    assert run("show", "nowhere") == (
        1,
        "there is no task nowhere: it has ended well, or was deleted\n",
    )


def test_the_command_prints_json(run: Run) -> None:
    (waiting, failed) = json.loads(run("list", "--json")[1])
    assert datetime.fromisoformat(waiting["added"]).timestamp() == pytest.approx(NOW - 60)
    assert (waiting["due"] is None, failed["due"]) == (False, None)
    assert "arguments" not in waiting
    shown = json.loads(run("show", "b-failed", "--json", "--arguments")[1])
    assert shown == {**failed, "arguments": {"args": [], "kwargs": {"order": 7}}}


def test_the_command_retries(run: Run, tasks: StoredTasks) -> None:
    assert run("retry", "b-failed", "b-failed") == (0, "retried: 1 of 1\n")
    assert tasks.count() == {"waiting": 2, "failed": 0}
    assert run("retry", "b-failed") == (1, "retried: 0 of 1\n")


def test_the_command_acts_on_all_that_have_failed(run: Run, tasks: StoredTasks) -> None:
    code, said = run("discard", "--all-failed", "--json")
    assert (code, json.loads(said)) == (0, {"discarded": 1, "asked": 1})
    assert run("retry", "--all-failed") == (0, "retried: 0 of 0\n")


def test_the_command_purges(run: Run) -> None:
    assert run("purge", "--older-than", "30d") == (0, "purged: 0\n")
    assert run("purge", "--older-than", "0s") == (0, "purged: 1\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "the following arguments are required: action"),
        (["list", "--state", "running"], "invalid choice"),
        (["list", "--limit", "-1"], "limit accepts a number from 0"),
        (["retry"], "retry wants ids of tasks, or --all-failed"),
        (["discard", "b-failed", "--all-failed"], "discard wants ids of tasks, or --all-failed"),
        (["purge", "--older-than", "30"], "'30' is not a number and s, m, h, d or w"),
        (["purge"], "--older-than"),
    ],
)
def test_wrong_usage_of_the_command(
    url: str, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tasks", "--store", url, *arguments])
    assert said in capsys.readouterr().err


IN_FLASK = """
from flask import Flask
from bgadapters.flask import BackgroundTasks
print("made")
app = Flask(__name__)
app.config["BACKGROUND_TASKS_STORE"] = URL
BackgroundTasks(app)
"""
IN_FASTAPI = """
from fastapi import FastAPI
from bgadapters.fastapi import init_app
app = FastAPI()
init_app(app, store=URL)
"""
IN_STARLETTE = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from bgadapters.asgi import BackgroundTasksMiddleware
app = Starlette(middleware=[Middleware(BackgroundTasksMiddleware, store=URL)])
"""
AS_WSGI = """
from bgadapters.wsgi import BackgroundTasksMiddleware
def app():
    return BackgroundTasksMiddleware(print, store=URL)
"""
IN_DJANGO = """
from django.conf import settings
settings.configure(
    BACKGROUND_TASKS={"STORE": URL},
    MIDDLEWARE=["bgadapters.django.BackgroundTasksMiddleware"],
    SECRET_KEY="only for tests",
)
from django.core.wsgi import get_wsgi_application
app = get_wsgi_application()
"""


def of_app(directory: Path, url: str, *modules: str) -> subprocess.CompletedProcess[str]:
    """Run the command on the application of the last module, which imports the others."""
    for number, text in enumerate(modules):
        lines = [f"import app{number - 1}"] if number else []
        lines += [f"URL = '{url}?busy_timeout={number + 1}'", text]
        (directory / f"app{number}.py").write_text("\n".join(lines))
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "bgadapters",
            "tasks",
            "--app",
            f"app{len(modules) - 1}:app",
            "count",
        ],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("text", [IN_FLASK, IN_FASTAPI, IN_STARLETTE, AS_WSGI, IN_DJANGO])
def test_the_command_finds_the_store_of_an_application(tmp_path: Path, url: str, text: str) -> None:
    run = of_app(tmp_path, url, text)
    assert (run.returncode, run.stdout) == (0, "waiting: 1\nfailed: 1\n"), run.stderr


@pytest.mark.parametrize(
    ("modules", "said"),
    [
        (["app = print"], "where tasks are, and it has none. Name one with --store"),
        ([IN_FASTAPI, IN_STARLETTE], "where tasks are, and 2 of them are set. Name one"),
        (["app = 1"], "app0:app is 1, which is no application"),
    ],
)
def test_an_application_without_one_store_is_refused(
    tmp_path: Path, url: str, modules: list[str], said: str
) -> None:
    run = of_app(tmp_path, url, *modules)
    assert run.returncode == 2
    assert said in run.stderr


def test_a_store_that_is_not_there_is_none_of_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere.db"
    with pytest.raises(StoreUnavailableError):
        StoredTasks(f"sqlite:///{path}").count()
    assert main(["tasks", "--store", f"sqlite:///{path}", "count"]) == 1
    assert str(path) in capsys.readouterr().err
    assert not path.exists()


def test_a_store_that_needs_a_package_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["tasks", "--store", "nosuch://host/tasks", "count"])
    assert "nosuch" in capsys.readouterr().err
