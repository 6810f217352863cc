"""Settings are refused at start-up, by name, with what they accept."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from threading import TIMEOUT_MAX
from typing import Any

import pytest

from bgadapters import BackgroundTasksError, SettingsError, TaskEvent, TaskInfo, TaskOptions
from bgadapters.adapters import SettingNames, Settings, parse_settings
from bgadapters.core.model.options import NO_OPTIONS
from tests.core.memory_engine import MemoryEngine
from tests.core.memory_store import MemoryStore

heard: list[TaskEvent] = []


def hook(event: TaskEvent) -> None:
    heard.append(event)


@contextmanager
def around(task: TaskInfo) -> Iterator[None]:
    yield


class Hooks:
    def __call__(self, event: TaskEvent) -> None: ...


WRONG_NUMBERS: list[Any] = [0, -1, True, "8", 8.0, None, math.inf, [8]]
WRONG_SECONDS: list[Any] = [-1, -0.1, True, "30", None, math.inf, -math.inf, math.nan, Decimal(1)]
WRONG_POLICIES: list[Any] = ["wait", "RUN", "", None, True, []]
WRONG_HOOKS: list[Any] = [1, "", "hook", True, []]
name_of_a_hook = "tests.core.test_settings.hook"


def test_nothing_given_means_the_defaults() -> None:
    assert parse_settings({}) == Settings()
    assert tuple(parse_settings({})) == (
        *(8, 1000, "run", 30.0, 10.0, False, True, True, True, False, None, None),
        *((), NO_OPTIONS, {}, None, {}, "", ()),
    )


def test_what_is_given_replaces_the_defaults() -> None:
    given: SettingNames = {
        "max_workers": 2,
        "max_pending": 1,
        "on_full": "reject",
        "drain_timeout": 0,
        "stall_warning": 0.0,
        "hold_response": False,
        "await_tasks": False,
        "handle_sigterm": False,
        "on_commit": False,
        "strict_portable": True,
        "on_event": hook,
        "on_error": Hooks(),
        "task_middleware": (around,),
        "defaults": TaskOptions(retries=1),
        "concurrency": {"webhooks": 2},
        "store": "sqlite:///tasks.db",
        "engines": {"mail": MemoryEngine()},
        "name": "shop",
        "task_modules": ("shop.",),
    }
    assert parse_settings(given)._asdict() == given
    assert type(parse_settings(given).drain_timeout) is float


def test_a_store_may_be_named_by_its_import_path() -> None:
    given = {"store": "tests.core.test_settings.STORE"}
    assert parse_settings(given).store is STORE


def test_each_setting_has_its_type_for_checkers_and_its_default() -> None:
    assert set(SettingNames.__annotations__) == set(Settings._fields)


def test_an_unknown_setting_is_refused_with_the_list_of_those_accepted() -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_settings({"max_worker": 8, "max_workers": 8, "pending": 1})
    assert str(refusal.value) == (
        "unknown setting max_worker, pending; accepted are max_workers, max_pending, on_full, "
        "drain_timeout, stall_warning, hold_response, await_tasks, handle_sigterm, on_commit, "
        "strict_portable, on_event, on_error, task_middleware, defaults, concurrency, "
        "store, engines, name, task_modules"
    )


def test_a_refusal_names_settings_as_the_user_wrote_them() -> None:
    def upper(name: str) -> str:
        return f"TASKS_{name.upper()}"

    with pytest.raises(SettingsError, match=r"unknown setting TASKS_X; accepted are TASKS_MAX_WO"):
        parse_settings({"x": 1}, upper)
    with pytest.raises(SettingsError, match=r"^TASKS_MAX_WORKERS accepts a whole number from 1"):
        parse_settings({"max_workers": 0}, upper)
    with pytest.raises(SettingsError, match=r"^TASKS_ON_ERROR: cannot import 'no.such'"):
        parse_settings({"on_error": "no.such"}, upper)


def test_settings_that_contradict_each_other_are_refused() -> None:
    given = {"hold_response": True, "await_tasks": False}
    with pytest.raises(SettingsError) as refusal:
        parse_settings(given, "BACKGROUND_{}".format)
    assert str(refusal.value) == (
        "BACKGROUND_hold_response=True has a response wait for its tasks, "
        "BACKGROUND_await_tasks=False has nothing wait for them; give one of the two"
    )
    assert parse_settings({"hold_response": True}).hold_response


def test_a_refusal_is_one_of_the_familys_errors_and_a_value_error() -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_settings({"on_full": "wait"})
    assert isinstance(refusal.value, BackgroundTasksError)
    assert isinstance(refusal.value, ValueError)


STORE = MemoryStore()
WHOLE = "a whole number from 1"
SECONDS = f"a number of seconds from 0 to {TIMEOUT_MAX:.0f}"


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        *[
            (name, value, WHOLE)
            for name in ("max_workers", "max_pending")
            for value in WRONG_NUMBERS
        ],
        *[
            (name, value, SECONDS)
            for name in ("drain_timeout", "stall_warning")
            for value in WRONG_SECONDS
        ],
        *[
            (name, value, "True or False")
            for name in ("handle_sigterm", "hold_response", "await_tasks")
            for value in (1, "no", None)
        ],
        *[("on_full", value, "'run' or 'reject'") for value in WRONG_POLICIES],
        *[
            (name, value, "a callable, its dotted import path, or None")
            for name in ("on_event", "on_error")
            for value in WRONG_HOOKS
        ],
    ],
)
def test_an_impossible_value_is_refused(name: str, value: Any, accepted: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_settings({name: value})
    assert str(refusal.value) == f"{name} accepts {accepted}, not {value!r}"


@pytest.mark.parametrize("name", ["on_event", "on_error"])
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("tests.core.test_settings.hook", hook),
        ("builtins.print", print),
        ("tests.core.test_settings.name_of_a_hook", hook),
    ],
)
def test_a_hook_may_be_given_by_its_import_path(
    name: str, path: str, found: Callable[..., Any]
) -> None:
    assert getattr(parse_settings({name: path}), name) is found


@pytest.mark.parametrize("name", ["on_event", "on_error"])
@pytest.mark.parametrize(
    "path",
    [
        "no.such.module",
        "tests.core.test_settings.no_such_hook",
        "tests.core.test_settings.hook.x",
        "tests.",
    ],
)
def test_a_hook_that_cannot_be_imported_is_refused(name: str, path: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name}: cannot import '{path}': ") as refusal:
        parse_settings({name: path})
    assert refusal.value.__cause__ is not None


def test_no_hook_may_be_asked_for() -> None:
    assert parse_settings({"on_event": None, "on_error": None}) == Settings()


def test_a_hook_path_that_leads_to_something_else_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"on_event accepts a callable"):
        parse_settings({"on_event": "tests.core.test_settings.heard"})


@pytest.mark.parametrize("path", [".hook", "..tests.hook"])
def test_a_hook_path_that_is_none_is_refused(path: str) -> None:
    with pytest.raises(SettingsError, match=r"^on_event"):
        parse_settings({"on_event": path})


@pytest.mark.parametrize("seconds", [10**10, 10**400], ids=["ten digits", "400 digits"])
def test_a_drain_timeout_that_no_thread_could_wait_is_refused(seconds: int) -> None:
    with pytest.raises(SettingsError, match=r"^drain_timeout accepts"):
        parse_settings({"drain_timeout": seconds})


async def async_hook(event: TaskEvent) -> None: ...


async def async_generator_hook(event: TaskEvent) -> AsyncIterator[None]:
    yield


class AsyncHook:
    """An object that is called as a coroutine function."""

    async def __call__(self, event: TaskEvent) -> None: ...


@pytest.mark.parametrize("name", ["on_event", "on_error"])
@pytest.mark.parametrize(
    "wrong",
    [
        async_hook,
        partial(async_hook),
        AsyncHook(),
        AsyncHook().__call__,
        async_generator_hook,
        "tests.core.test_settings.async_hook",
    ],
    ids=["function", "partial", "object", "method", "generator", "path"],
)
def test_a_hook_that_would_have_to_be_awaited_is_refused(name: str, wrong: Any) -> None:
    with pytest.raises(SettingsError, match=f"{name}.*Write it with 'def'"):
        parse_settings({name: wrong})
