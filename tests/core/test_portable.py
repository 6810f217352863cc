"""What could be sent to another process is let through, anything else is named."""

from __future__ import annotations

import asyncio
import functools
import math
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

import pytest

from bgadapters import BackgroundTasks, NotPortableError
from bgadapters.core.model.encoding import ACCEPTED
from tests.core.ways import MakeRuntime, lines_of


def task(*args: Any, **kwargs: Any) -> None: ...


class Markup(str):
    __slots__ = ()


class Row:
    _meta = "as Django's models have"


@dataclass
class Forgetful:
    text: str

    def __post_init__(self) -> None:
        self.text = self.text if self.text == "new" else ""


def kept(text: str) -> Forgetful:
    value = Forgetful("new")
    value.text = text + "er"
    return value


class OwnZone(tzinfo):
    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(0)

    dst = utcoffset

    def tzname(self, _: datetime | None) -> str:
        return "own"


def typed(*args: Forgetful | int, **kwargs: Any) -> None: ...


async def atask() -> None: ...


class Holder:
    @staticmethod
    def static() -> None: ...

    @classmethod
    def of_the_class(cls) -> None: ...

    def method(self) -> None: ...


@pytest.fixture
def queue(make_runtime: MakeRuntime) -> BackgroundTasks:
    return BackgroundTasks(runtime=make_runtime(strict_portable=True))


@pytest.mark.parametrize("func", [task, atask, print, Holder.static, asyncio.all_tasks])
def test_what_has_a_name_is_accepted(queue: BackgroundTasks, func: Any) -> None:
    queue.add_task(func)
    assert len(queue) == 1
    queue.close(KeyError())


@pytest.mark.parametrize(
    "func",
    [
        lambda: None,
        functools.partial(task),
        functools.wraps(task)(lambda: None),
        Holder().method,
        Holder.of_the_class,
        [].append,
    ],
    ids=["lambda", "partial", "decorated", "method", "class method", "built-in method"],
)
def test_what_has_none_is_refused(queue: BackgroundTasks, func: Any) -> None:
    accepted = "strict_portable accepts what can be imported by name, functions at the top level"
    with pytest.raises(NotPortableError, match=f"^cannot add .*: {accepted} of a module; not "):
        queue.add_task(func)
    assert len(queue) == 0


class TaskObject:
    """As frameworks for tasks make them of a function, whose name is theirs then."""

    def __init__(self, func: Any) -> None:
        self.func = func

    def enqueue(self, *args: Any) -> None: ...


@TaskObject
def enqueued() -> None: ...


def test_a_task_object_is_as_portable_as_its_function(queue: BackgroundTasks) -> None:
    task: Any = enqueued
    queue.add_task(task, "ada")
    assert len(queue) == 1
    unnamed: Any = TaskObject(lambda: None)
    with pytest.raises(NotPortableError, match=r"^cannot add .*<lambda>: .*; not <function "):
        queue.add_task(unnamed)
    with pytest.raises(NotPortableError, match=r"^cannot add .*\.enqueued: .* argument 1 is "):
        queue.add_task(task, object())
    queue.close(KeyError())


def test_a_script_is_no_module() -> None:
    """Another process has another ``__main__``."""
    script = """
    import bgadapters
    from bgadapters.adapters import Runtime
    from bgadapters.adapters import Settings

    def task(): ...

    queue = bgadapters.BackgroundTasks(runtime=Runtime(Settings(strict_portable=True)))
    try:
        queue.add_task(task)
    except bgadapters.NotPortableError as refused:
        print(str(refused).partition(":")[0])
    """
    assert lines_of(script) == ["cannot add __main__.task"]


def test_what_json_keeps_is_accepted(queue: BackgroundTasks) -> None:
    queue.add_task(task, None, True, 1, 1.5, "é", [1, ["a"]], nested={"a": {"b": [{}]}})
    assert len(queue) == 1
    queue.close(KeyError())


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object, "an object of type cannot be kept as JSON. Pass the values that it is made of"),
        ([object()], "an object of object cannot be kept as JSON. Pass the values that"),
        (math.nan, "Out of range float values are not JSON compliant"),
        (pytest.ExitCode.OK, "ExitCode is not in the annotations of the function, which say what"),
        (Markup("<b>"), "Markup would come back as str: pass str(...)"),
        (Row(), "Row is an object of the ORM. Pass its primary key, and load it in the task"),
        (kept("new"), "it would come back as Forgetful(text='')"),
        (datetime(2026, 1, 1, tzinfo=OwnZone()), "its time zone is a OwnZone: take one of "),
    ],
    ids=["class", "object", "nan", "enum", "text", "row", "changed", "zone"],
)
def test_what_it_does_not_is_named(queue: BackgroundTasks, value: Any, why: str) -> None:
    said = (
        "cannot add tests.core.test_portable.typed: strict_portable accepts arguments that JSON "
        f"can keep ({ACCEPTED}); argument NAME is "
    )
    with pytest.raises(NotPortableError) as refused:
        queue.add_task(typed, 0, value)
    assert str(refused.value).startswith(said.replace("NAME", "2"))
    assert f": {why}" in str(refused.value)
    with pytest.raises(NotPortableError) as refused:
        queue.add_task(typed, given=value)
    assert str(refused.value).startswith(said.replace("NAME", "given"))


def test_a_value_that_contains_itself(queue: BackgroundTasks) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotPortableError, match="maximum recursion depth exceeded"):
        queue.add_task(task, value)
    with pytest.raises(NotPortableError, match="argument given is "):
        queue.options(name="named").add_task(task, given=value)


def test_nobody_asks_by_default(make_runtime: MakeRuntime) -> None:
    queue = BackgroundTasks(runtime=make_runtime())
    queue.add_task(lambda: None)
    queue.close(KeyError())
