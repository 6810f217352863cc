"""What may be a task, what is refused at the call, and what a task is called."""

from __future__ import annotations

import asyncio
import builtins
import functools
import inspect
import sys
import types
import warnings
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextvars import copy_context
from functools import partial
from typing import Any
from unittest import mock

import pytest
from asgiref.sync import markcoroutinefunction, sync_to_async

from bgadapters import BackgroundTasks
from bgadapters.adapters import Options, Task
from bgadapters.core.model import task as task_module
from bgadapters.core.model.options import DEFAULT_OPTIONS
from bgadapters.core.model.task import FullTask, callable_name, examined, made


def function() -> None: ...


async def coroutine_function() -> None: ...


@functools.wraps(coroutine_function)
def wrapper() -> Any:
    return coroutine_function()


@types.coroutine
def old_style() -> Generator[Any, Any, None]:
    yield from asyncio.sleep(0).__await__()


def generator_function() -> Iterator[int]:
    yield 1


async def async_generator_function() -> AsyncIterator[int]:
    yield 1


class Methods:
    def sync(self) -> None: ...

    async def asynchronous(self) -> None: ...

    def generator(self) -> Iterator[int]:
        yield 1


class SyncCall:
    def __call__(self) -> None: ...


class AsyncCall:
    async def __call__(self) -> None: ...


class GeneratorCall:
    def __call__(self) -> Iterator[int]:
        yield 1


ON_A_LOOP = {
    "coroutine function": coroutine_function,
    "partial": partial(coroutine_function),
    "partial of partial": partial(partial(coroutine_function)),
    "bound method": Methods().asynchronous,
    "object": AsyncCall(),
    "partial of object": partial(AsyncCall()),
    "generator-based coroutine function": old_style,
    "sync_to_async": sync_to_async(function),
    "asyncio's own": asyncio.sleep,
}

IN_A_WORKER = {
    "function": function,
    "lambda": lambda: coroutine_function(),
    "wrapper": wrapper,
    "partial": partial(function),
    "bound method": Methods().sync,
    "object": SyncCall(),
    "class": dict,
    "class of async objects": AsyncCall,
    "class of generator objects": GeneratorCall,
    "built-in": len,
    "built-in method": [].append,
    "mock": mock.MagicMock(),
}

GENERATORS = {
    "generator function": generator_function,
    "async generator function": async_generator_function,
    "partial": partial(generator_function),
    "bound method": Methods().generator,
    "object": GeneratorCall(),
    "partial of object": partial(GeneratorCall()),
}


@pytest.mark.parametrize(
    "name", ["CO_GENERATOR", "CO_COROUTINE", "CO_ITERABLE_COROUTINE", "CO_ASYNC_GENERATOR"]
)
def test_flags_of_code_are_what_python_calls_so(name: str) -> None:
    assert getattr(task_module, name) == getattr(inspect, name)


@pytest.mark.parametrize("kind", ON_A_LOOP)
def test_a_callable_that_gives_a_coroutine_belongs_on_a_loop(kind: str) -> None:
    assert examined(ON_A_LOOP[kind]) == (ON_A_LOOP[kind], True)


def test_a_marked_function_belongs_on_a_loop_where_python_has_such_marks() -> None:
    """inspect.markcoroutinefunction came with Python 3.12; before, what it returns is awaited."""
    marked = markcoroutinefunction(lambda: coroutine_function())
    assert examined(marked) == (marked, sys.version_info >= (3, 12))


@pytest.mark.parametrize("kind", IN_A_WORKER)
def test_a_callable_of_which_nothing_else_is_known_belongs_in_a_worker(kind: str) -> None:
    assert examined(IN_A_WORKER[kind]) == (IN_A_WORKER[kind], False)


@pytest.mark.parametrize("kind", GENERATORS)
def test_a_generator_function_is_refused_since_calling_it_runs_nothing(
    kind: str, queue: BackgroundTasks
) -> None:
    with pytest.raises(TypeError, match=r"got the generator function .*Pass a function"):
        queue.add_task(GENERATORS[kind])  # type: ignore[arg-type]
    assert len(queue) == 0


def test_a_coroutine_object_is_refused_and_python_adds_no_warning(queue: BackgroundTasks) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(TypeError) as refusal:
            queue.add_task(coroutine_function())  # type: ignore[arg-type]
    assert caught == []
    assert str(refusal.value) == (
        "add_task() got a coroutine object of coroutine_function. Pass the function and its "
        "arguments: add_task(coroutine_function, ...), not add_task(coroutine_function(...))."
    )
    assert len(queue) == 0


@pytest.mark.parametrize(
    "value",
    [None, 1, "function", object(), [function]],
    ids=["None", "int", "str", "object", "list"],
)
def test_what_cannot_be_called_is_refused(value: Any, queue: BackgroundTasks) -> None:
    with pytest.raises(TypeError) as refusal:
        queue.add_task(value)
    assert repr(value) in str(refusal.value)
    assert type(value).__name__ in str(refusal.value)
    assert len(queue) == 0


def test_none_is_what_a_call_returned(queue: BackgroundTasks) -> None:
    with pytest.raises(TypeError, match=r"add_task\(func, \.\.\.\), not add_task\(func\("):
        queue.add_task(function())  # type: ignore[func-returns-value,arg-type]


def test_a_refusal_comes_before_the_queue_is_asked_whether_it_is_open(
    queue: BackgroundTasks,
) -> None:
    queue.release()
    with pytest.raises(TypeError):
        queue.add_task(None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "add_task",
    [BackgroundTasks.add_task, BackgroundTasks().options().add_task],
    ids=["queue", "options"],
)
def test_add_task_has_the_signature_of_fastapis(add_task: Callable[..., None]) -> None:
    from fastapi import BackgroundTasks as FastAPIs

    def shape(function: Callable[..., Any]) -> list[tuple[str, Any]]:
        parameters = inspect.signature(function).parameters.values()
        return [(p.name, p.kind) for p in parameters if p.name != "self"]

    assert shape(add_task) == shape(FastAPIs.add_task)


class Proxy:
    """As Celery has them: what it stands for tells its name, and itself its own module."""

    __class__ = type("Task", (), {"__module__": "another_module"})  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def __init__(self) -> None:
        self.__qualname__ = "its_name"

    def __call__(self) -> None: ...


@pytest.mark.parametrize(
    ("func", "name"),
    [
        (function, "tests.core.test_task.function"),
        (partial(partial(function)), "tests.core.test_task.function"),
        (Methods().sync, "tests.core.test_task.Methods.sync"),
        (Methods, "tests.core.test_task.Methods"),
        (SyncCall(), "tests.core.test_task.SyncCall"),
        (builtins.print, "builtins.print"),
        ([].append, "list.append"),
        (mock.Mock(), "unittest.mock.Mock"),
        (Proxy(), "another_module.its_name"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_task_is_called_after_its_function(func: Any, name: str) -> None:
    assert callable_name(func) == name
    task = Task(func, (), copy_context())
    assert task.name == name
    assert repr(task) == f"<Task {name}>"


def test_a_name_given_as_an_option_is_the_name_of_the_task() -> None:
    options = Options(name="welcome")
    assert FullTask(function, (), None, copy_context(), options).name == "welcome"


class HostileText(str):
    """Text that nothing can be done with."""

    __slots__ = ()

    def __str__(self) -> str:
        raise SystemExit("no text")

    def __format__(self, _: str) -> str:
        raise SystemExit("no format")

    def translate(self, _: Any) -> str:
        raise SystemExit("no translation")


class TextOfItsOwn(HostileText):
    __slots__ = ()

    def __str__(self) -> str:
        return self


def test_a_name_that_is_hostile_text_harms_nobody() -> None:
    def name_of(func: Any, **options: Any) -> str:
        task = FullTask(func, (), None, copy_context(), Options(**options))
        return f"{task.name}"

    hostile = type("Hostile", (), {"__qualname__": HostileText("f"), "__call__": print})
    nameless = type("Nameless", (), {"__module__": 3, "__qualname__": HostileText("f")})
    assert name_of(hostile()) == f"{__name__}.f"
    assert name_of(nameless()) == "an object whose type has no name"
    assert name_of(function, name=HostileText("it")) == "builtins.function"
    assert name_of(function, name=TextOfItsOwn("it")) == "it"


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("kwargs", "options", "room"),
    [
        (None, DEFAULT_OPTIONS, ("args", "context", "func", "record")),
        ({"end": ""}, DEFAULT_OPTIONS, ("kwargs", "options")),
        (None, Options(name="ada"), ("kwargs", "options")),
    ],
)
def test_a_task_has_room_for_what_it_consists_of(
    is_async: bool, kwargs: Any, options: Options, room: tuple[str, ...]
) -> None:
    task = made(print, (), kwargs, copy_context(), options, is_async)
    assert (task.kwargs, task.options, task.is_async) == (kwargs, options, is_async)
    assert not hasattr(task, "__dict__")
    slots = [vars(each).get("__slots__") for each in type(task).__mro__]
    assert next(filter(None, slots)) == room
