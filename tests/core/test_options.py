"""Options of a task: what is accepted and refused at the call; the last one counts."""

from __future__ import annotations

import asyncio
import datetime
import math
from collections.abc import Callable
from functools import partial, wraps
from typing import Any
from unittest.mock import Mock

import pytest

from bgadapters import BackgroundTasks, SettingsError, TaskOptions, task_options
from bgadapters.adapters import Options, Runtime, Settings, parse_settings
from bgadapters.core.model.marks import marked_options
from bgadapters.core.model.options import DEFAULT_OPTIONS
from tests.core.ways import MakeRuntime

ALWAYS = Options(always=True, run_on="always")
NOW = datetime.datetime.now(datetime.UTC)


def function() -> None: ...


def options_of(queue: BackgroundTasks) -> list[Options]:
    """The options of what was added, which is then thrown away."""
    found = [task.options for task in queue.batch.left()]
    queue.close(ValueError())
    queue.batch.remove()
    return found


def test_what_is_equal_is_not_the_same(queue: BackgroundTasks) -> None:
    """Options are looked at once, of each type."""
    queue.options(retries=1, durable=False)
    with pytest.raises(TypeError, match="retries"):
        queue.options(retries=True, durable=False)
    with pytest.raises(TypeError, match="durable"):
        queue.options(retries=1, durable=0)  # type: ignore[arg-type]


def test_options_add_up_and_the_last_word_counts(queue: BackgroundTasks) -> None:
    one = TaskOptions(always=True, name="one")
    assert one.over(DEFAULT_OPTIONS) == ALWAYS._replace(name="one")
    assert TaskOptions(one, name="two").over(DEFAULT_OPTIONS) == ALWAYS._replace(name="two")
    assert TaskOptions(one, name=None).over(DEFAULT_OPTIONS) == ALWAYS

    queue.options(name="one").options(always=True).options(name="two").add_task(function)
    queue.options(one, retries=2).options(name="two").add_task(function)
    assert options_of(queue) == [
        ALWAYS._replace(name="two"),
        ALWAYS._replace(name="two", retries=2),
    ]


def test_a_set_of_options_can_be_kept_compared_and_shown() -> None:
    webhooks = TaskOptions(retries=5, timeout=10)
    assert repr(webhooks) == "TaskOptions(retries=5, timeout=10)"
    assert webhooks == TaskOptions(timeout=10, retries=5)
    assert hash(webhooks) == hash(TaskOptions(timeout=10, retries=5))
    assert webhooks != TaskOptions(retries=5)
    assert webhooks != {"retries": 5, "timeout": 10}
    with pytest.raises(TypeError, match=r"options\(\) accepts a TaskOptions and options by name"):
        BackgroundTasks().options({"retries": 5})  # type: ignore[arg-type]


def test_of_two_ways_to_say_the_same_the_later_counts() -> None:
    always = TaskOptions(always=True)
    assert TaskOptions(always, run_on="error").over(DEFAULT_OPTIONS) == Options(run_on="error")
    on_error = TaskOptions(run_on="error").over(DEFAULT_OPTIONS)
    assert always.over(on_error) == ALWAYS
    assert TaskOptions(always=False).over(ALWAYS) == Options()
    soon = TaskOptions(delay=5)
    assert TaskOptions(soon, run_after=NOW).over(DEFAULT_OPTIONS) == Options(run_after=NOW)
    assert soon.over(Options(run_after=NOW)) == Options(delay=5)
    assert TaskOptions(run_after=NOW).over(Options(delay=5)) == Options(run_after=NOW)


@pytest.mark.parametrize(
    "given",
    [
        {"always": True, "run_on": "error"},
        {"always": False, "run_on": "always"},
        {"delay": 1, "run_after": NOW},
    ],
)
def test_what_contradicts_itself_is_refused(queue: BackgroundTasks, given: Any) -> None:
    with pytest.raises(TypeError, match="Leave one of them away"):
        queue.options(**given)


def test_an_unknown_option_is_refused_with_the_list_of_those_accepted(
    queue: BackgroundTasks,
) -> None:
    with pytest.raises(TypeError) as refusal:
        queue.options(retry=3)  # type: ignore[call-arg]
    assert str(refusal.value).startswith(
        "options() got an unknown option 'retry'; it accepts always= (True or False), "
        "name= (a string or None), on_commit= (True or False), run_on= ('success', "
    )
    with pytest.raises(TypeError, match="'limit'"):
        queue.options(always=True).options(limit=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"task_options\(\) got an unknown option 'x'"):
        task_options(x=1)  # type: ignore[call-arg]


class Awaited:
    """What is called for a coroutine."""

    async def __call__(self, *_: object) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("option", "value", "accepted"),
    [
        ("always", 1, "True or False"),
        ("always", None, "True or False"),
        ("always", "yes", "True or False"),
        ("name", 1, "a string or None"),
        ("name", b"bytes", "a string or None"),
        ("run_on", "failure", "'success', 'error' or 'always'"),
        ("retries", -1, "a whole number from 0"),
        ("retries", True, "a whole number from 0"),
        ("retries", 1.0, "a whole number from 0"),
        ("retry_on", SystemExit, "a subclass of Exception, a tuple of those, or a function"),
        ("retry_on", (OSError, KeyboardInterrupt), "a subclass of Exception, a tuple of those"),
        ("retry_on", (OSError, "x"), "a subclass of Exception, a tuple of those"),
        ("retry_on", "OSError", "a subclass of Exception, a tuple of those"),
        ("retry_on", asyncio.sleep, "a subclass of Exception, a tuple of those"),
        ("retry_on", Awaited(), "a subclass of Exception, a tuple of those"),
        ("backoff", asyncio.sleep, "or a function of attempt and exception"),
        ("backoff", -1, "a number of seconds from 0 to"),
        ("backoff", None, "or a function of attempt and exception"),
        ("max_backoff", math.inf, "a number of seconds from 0 to"),
        ("timeout", 0, "a number of seconds above 0, or None"),
        ("delay", math.nan, "a number of seconds from 0 to"),
        ("delay", datetime.timedelta(1), "a number of seconds from 0 to"),
        ("run_after", 5.0, "a datetime or None"),
        ("priority", 101, "a whole number from -100 to 100"),
        ("key", "", "a string that is not empty, or None"),
        ("on_duplicate", "drop", "'replace' or 'keep'"),
        ("concurrency", 3, "the name of a limit in the setting 'concurrency', or None"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(
    option: str, value: Any, accepted: str, queue: BackgroundTasks
) -> None:
    with pytest.raises(TypeError) as refusal:
        queue.options(**{option: value})
    said = str(refusal.value)
    assert said.startswith(f"options({option}=...) accepts ")
    assert accepted in said
    assert said.endswith(f", not {value!r}")


def test_options_take_no_names_from_the_tasks_own_keyword_arguments(
    queue: BackgroundTasks,
) -> None:
    def task(**kwargs: Any) -> None: ...

    queue.options(always=False, name="mine").add_task(task, name="theirs", always=True, options=1)
    (added,) = queue.batch.left()
    assert added.kwargs == {"name": "theirs", "always": True, "options": 1}
    assert added.options == Options(always=False, name="mine")
    queue.close(ValueError())


# What needs the application to be understood.


def test_a_limit_that_the_application_does_not_name_is_refused(make_runtime: MakeRuntime) -> None:
    queue = BackgroundTasks(runtime=make_runtime(concurrency={"webhooks": 2}))
    queue.options(concurrency="webhooks")
    with pytest.raises(TypeError, match=r"'concurrency' names 'webhooks'\. Add it there"):
        queue.options(concurrency="hooks")

    @task_options(concurrency="hooks")
    def marked() -> None: ...

    with pytest.raises(
        TypeError, match=r"names no limit\. Add it there: concurrency=\{'hooks': 4}"
    ):
        BackgroundTasks().add_task(marked)


def test_a_time_without_a_zone_is_refused(queue: BackgroundTasks) -> None:
    naive = NOW.replace(tzinfo=None)
    with pytest.raises(TypeError, match="has no time zone"):
        queue.options(run_after=naive)

    class Silent(datetime.tzinfo):
        def utcoffset(self, _: Any) -> None:
            return None

        dst = tzname = utcoffset

    with pytest.raises(TypeError, match="has no time zone"):
        queue.options(run_after=naive.replace(tzinfo=Silent()))


# Those of a function, and of an application.


class Notifier:
    @task_options(name="method")
    def method(self) -> None: ...

    @staticmethod
    @task_options(name="below")
    def below() -> None: ...

    @task_options(name="above")
    @staticmethod
    def above() -> None: ...

    @task_options(name="class")
    @classmethod
    def of_class(cls) -> None: ...

    @task_options(name="call")
    def __call__(self) -> None: ...


@task_options(name="coroutine")
async def coroutine() -> None: ...


@task_options(name="one")
def marked(argument: int = 1) -> int:
    return argument


@wraps(marked)
def wrapped() -> None: ...


class Enqueued:
    """A task object of another framework."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def enqueue(self) -> None: ...


@task_options(name="enqueued", always=True, retries=2)
@Enqueued
def enqueued() -> None: ...


partial_of_its_own = task_options(name="partial")(partial(marked, 1))


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (marked, "one"),
        (wrapped, "one"),
        (partial(marked, 2), "one"),
        (partial_of_its_own, "partial"),
        (coroutine, "coroutine"),
        (Notifier().method, "method"),
        (Notifier.below, "below"),
        (Notifier().above, "above"),
        (Notifier.of_class, "class"),
        (Notifier(), "call"),
        (enqueued, "enqueued"),
    ],
)
def test_a_function_has_options_of_its_own_wherever_it_is_added(
    queue: BackgroundTasks, func: Any, name: str
) -> None:
    queue.add_task(func)
    queue.options(always=True).add_task(func)
    queue.options(name="at the call").add_task(func)
    assert [(each.name, each.retries) for each in options_of(queue)] == [
        (name, 0),  # a task object is enqueued once: its framework runs its function
        (name, 0),
        ("at the call", 0),
    ]


def test_the_function_stays_what_it_is() -> None:
    assert marked(5) == 5
    assert marked.__name__ == "marked"
    again = task_options(retries=1)(marked)
    assert again is marked
    assert marked_options(marked) == TaskOptions(name="one", retries=1)  # the outer one adds
    task_options(TaskOptions(retries=0))(marked)


def test_what_has_no_options_of_its_own(queue: BackgroundTasks) -> None:
    class Proxy:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("not bound")

        def __call__(self) -> None: ...

    functions: list[Any] = [print, int, [].append, Mock(), Proxy(), Notifier, partial(print)]
    for func in [*functions, function]:
        assert marked_options(func) is None


@pytest.mark.parametrize("func", [print, [].append, Notifier().method])
def test_what_keeps_no_attributes_is_refused(func: Any) -> None:
    with pytest.raises(TypeError, match="which keeps no attributes"):
        task_options(retries=1)(func)


def test_the_decorator_without_its_brackets_says_so() -> None:
    with pytest.raises(TypeError, match=r"task_options\(TaskOptions\(\.\.\.\), name=value\)"):
        task_options(function)  # type: ignore[arg-type]


def test_the_call_goes_before_the_function_and_that_before_the_application(
    make_runtime: MakeRuntime,
) -> None:
    runtime = make_runtime(defaults={"retries": 1, "backoff": 2.0, "timeout": 9})

    @task_options(retries=2, backoff=3.0)
    def of_its_own() -> None: ...

    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(function)
    queue.add_task(of_its_own)
    queue.options(retries=3).add_task(of_its_own)
    queue.options(timeout=None, retries=0).add_task(function)
    assert options_of(queue) == [
        Options(retries=1, backoff=2.0, timeout=9),
        Options(retries=2, backoff=3.0, timeout=9),
        Options(retries=3, backoff=3.0, timeout=9),
        Options(backoff=2.0),
    ]


def test_defaults_of_an_application_are_checked() -> None:
    assert parse_settings({"defaults": TaskOptions(retries=1)}) == Settings(
        defaults=TaskOptions(retries=1)
    )
    assert Runtime().adds_plainly
    assert not Runtime(Settings(defaults=TaskOptions(retries=1))).adds_plainly
    with pytest.raises(SettingsError, match=r"defaults\(retries=\.\.\.\) accepts a whole number"):
        parse_settings({"defaults": {"retries": -1}})
    with pytest.raises(SettingsError, match="a TaskOptions or a dictionary of options"):
        parse_settings({"defaults": 3})


@pytest.mark.parametrize("value", [3, {"a": 0}, {"": 1}, {"a": True}, {1: 1}])
def test_limits_of_an_application_are_checked(value: Any) -> None:
    with pytest.raises(SettingsError, match="a mapping of names to whole numbers from 1"):
        parse_settings({"concurrency": value})
