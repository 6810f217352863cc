"""What cannot be called with its arguments is refused where it is added."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, cast
from unittest import mock

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core.model.arguments import CO_VARARGS, CO_VARKEYWORDS


def nothing() -> None: ...
def one(a: Any) -> None: ...
def local(a: Any) -> None:
    b = c = a
    del b, c


def defaults(a: Any, b: Any = 1, c: Any = 2) -> None: ...
def by_place(a: Any, b: Any = 1, /) -> None: ...
def by_place_and_keywords(a: Any, /, **kwargs: Any) -> None: ...
def by_place_and_name(a: Any, /, b: Any) -> None: ...
def by_name(*, a: Any, b: Any = 1) -> None: ...
def mixed(a: Any, b: Any = 1, *, c: Any) -> None: ...
def any_places(a: Any, *args: Any) -> None: ...
def any_names(a: Any = 1, **kwargs: Any) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...
def everything(
    a: Any, /, b: Any, c: Any = 1, *args: Any, d: Any, e: Any = 2, **kw: Any
) -> None: ...
async def asynchronous(a: Any, b: Any = 1) -> None: ...


@functools.wraps(one)
def wrapper(*args: Any, **kwargs: Any) -> None: ...
@functools.wraps(anything)
def narrow_wrapper(a: Any) -> None: ...


class Base:
    def __call__(self, a: Any, *, b: Any = 1) -> None: ...


class Holder(Base):
    def method(self, a: Any, b: Any = 1) -> None: ...
    @classmethod
    def of_class(cls, a: Any) -> None: ...
    @staticmethod
    def static(a: Any) -> None: ...


FUNCTIONS: list[Callable[..., Any]] = [
    nothing,
    one,
    local,
    defaults,
    by_place,
    by_place_and_keywords,
    by_place_and_name,
    by_name,
    mixed,
    any_places,
    any_names,
    anything,
    everything,
    asynchronous,
    wrapper,
    narrow_wrapper,
    Holder(),
    Holder().method,
    Holder.of_class,
    Holder.static,
    partial(defaults, 1),
    partial(defaults, b=1),
    partial(partial(mixed, 1), c=1),
    partial(Holder().method, b=1),
    lambda a, *b, c=1: None,
]
CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (tuple(range(count)), dict.fromkeys(names))
    for count in range(5)
    for names in ("", "a", "b", "c", "d", "ab", "bc", "cd", "abc", "bcd", "x", "ax", "cx")
]


def refusal_of(add: Callable[..., object], *args: Any, **kwargs: Any) -> str | None:
    try:
        add(*args, **kwargs)
    except TypeError as exc:
        return str(exc)
    return None


@pytest.mark.parametrize("func", FUNCTIONS)
def test_a_call_is_refused_if_and_only_if_python_would_refuse_it(
    func: Callable[..., Any], queue: BackgroundTasks
) -> None:
    if func is by_place_and_keywords and sys.version_info[:3] == (3, 13, 0):
        pytest.skip("inspect takes a keyword for a parameter that is positional only")
    bind = inspect.signature(func, follow_wrapped=False).bind
    for args, kwargs in CALLS:
        expected = refusal_of(bind, *args, **kwargs)
        got = refusal_of(queue.add_task, func, *args, **kwargs)
        assert (got is None) == (expected is None), (args, kwargs, expected)
        assert (expected or "") in (got or "")
    queue.close(LookupError())


class Meta(type):
    def __call__(cls, *args: object) -> None:
        """Makes no instance."""


class Made(metaclass=Meta):
    def __init__(self, a: Any) -> None: ...
    def __call__(self, a: Any, b: Any) -> None: ...


PARTIAL: Any = partial


class _PlaceholderType:
    """As functools has it since Python 3.14."""


@pytest.mark.parametrize(
    "func",
    [
        wrapper,  # a decorator may give what it wraps what it likes
        Made,
        len,
        [].append,
        mock.MagicMock(),
        partial(print, 1),
        PARTIAL(one, _PlaceholderType(), 1),
        cast(Any, Holder().method).__call__,
    ],
)
def test_what_is_not_certain_is_not_refused(func: Any, queue: BackgroundTasks) -> None:
    queue.add_task(func, 1)
    queue.close(LookupError())


def write_notification(email: str, message: str = "") -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "said"),
    [
        (
            (),
            {},
            "missing a required argument: 'email'. Given were 0 positional arguments and no "
            "keywords.",
        ),
        (
            (1, 2, 3),
            {},
            "too many positional arguments. Given were 3 positional arguments and no keywords.",
        ),
        (
            ("ada",),
            {"always": True},
            "got an unexpected keyword argument 'always'. Given were 1 positional argument and "
            "the keywords always. An option is none of the task's arguments: "
            "options(...).add_task(func, ...).",
        ),
        (
            (),
            {"args": ("ada",)},
            "missing a required argument: 'email'. Given were 0 positional arguments and the "
            "keywords args. The arguments follow the function: add_task(func, 1, name=2).",
        ),
    ],
)
def test_the_error_names_the_function_its_signature_and_what_was_given(
    queue: BackgroundTasks, args: Any, kwargs: Any, said: str
) -> None:
    with pytest.raises(TypeError) as refusal:
        queue.add_task(write_notification, *args, **kwargs)
    name = "tests.core.test_arguments.write_notification(email: 'str', message: 'str' = '')"
    assert f"{refusal.value} -> 'None'".startswith(f"add_task() cannot call {name} -> 'None' like")
    assert str(refusal.value).endswith(f"like that: {said}")
    assert len(queue) == 0


def test_a_signature_that_cannot_be_shown_is_refused_all_the_same(queue: BackgroundTasks) -> None:
    class Default:
        def __repr__(self) -> str:
            raise SystemExit

    def task(a: object, b: object = Default()) -> None: ...

    with pytest.raises(TypeError, match=r"cannot call builtins\.function like that: missing a"):
        queue.add_task(task)  # type: ignore[call-arg]


def test_a_signature_that_lies_is_refused_without_a_reason(queue: BackgroundTasks) -> None:
    def task(a: object) -> None: ...

    task.__signature__ = inspect.signature(anything)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="like that: Given were 0 positional arguments"):
        queue.add_task(task)  # type: ignore[call-arg]


def test_options_check_the_arguments_too(queue: BackgroundTasks) -> None:
    with pytest.raises(TypeError, match="too many positional arguments"):
        queue.options(name="welcome").add_task(one, 1, 2)  # type: ignore[call-arg]


def test_flags_of_code_are_what_python_calls_so() -> None:
    assert (CO_VARARGS, CO_VARKEYWORDS) == (inspect.CO_VARARGS, inspect.CO_VARKEYWORDS)
