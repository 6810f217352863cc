"""What could be sent to another process is let through, anything else is named."""

from __future__ import annotations

import asyncio
import functools
import math
from typing import Any

import pytest

from bgadapters import BackgroundTasks, NotPortableError
from tests.core.ways import MakeRuntime, lines_of


def task(*args: Any, **kwargs: Any) -> None: ...


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
        (object, "Object of type type is not JSON serializable"),
        ({1, 2}, "Object of type set is not JSON serializable"),
        ((1, 2), "it would come back as [1, 2]"),
        ([(1,)], "it would come back as [[1]]"),
        ({1: "a"}, "it would come back as {'1': 'a'}"),
        ({"a": (1,)}, "it would come back as {'a': [1]}"),
        (math.nan, "it would come back as nan"),
        (pytest.ExitCode.OK, "it would come back as 0"),
    ],
    ids=str,
)
def test_what_it_does_not_is_named(queue: BackgroundTasks, value: Any, why: str) -> None:
    said = (
        "cannot add tests.core.test_portable.task: strict_portable accepts arguments that survive "
        "JSON (None, bool, int, float, str, list, dict with str keys); argument NAME is "
        f"{value!r} of type {type(value).__name__}: {why}"
    )
    with pytest.raises(NotPortableError) as refused:
        queue.add_task(task, 0, value)
    assert str(refused.value) == said.replace("NAME", "2")
    with pytest.raises(NotPortableError) as refused:
        queue.add_task(task, given=value)
    assert str(refused.value) == said.replace("NAME", "given")


def test_a_value_that_contains_itself(queue: BackgroundTasks) -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotPortableError, match="Circular reference"):
        queue.add_task(task, value)
    with pytest.raises(NotPortableError, match="argument given is "):
        queue.options(name="named").add_task(task, given=value)


def test_nobody_asks_by_default(make_runtime: MakeRuntime) -> None:
    queue = BackgroundTasks(runtime=make_runtime())
    queue.add_task(lambda: None)
    queue.close(KeyError())
