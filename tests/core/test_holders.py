"""Who holds the interpreter's lock: the arithmetic, with looks and clocks that are made up."""

from __future__ import annotations

import functools
import time
import zlib
from collections.abc import Callable
from contextvars import Context
from typing import Any

import pytest

from bgadapters.core.control import holders as module
from bgadapters.core.control.holders import Holders, function_of, scale
from bgadapters.core.drivers.lock_watch import Look, Worker
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Call, EnqueueCall, Task, TaskWrapper

A_LOOK = 0.01  # seconds


def task_of(func: Any) -> Task:
    return Task(func, (), Context())


def burns() -> None: ...


def adds(a: int, b: int) -> None: ...


def waits() -> None: ...


def packs() -> None: ...


def worker(
    func: Callable[..., object],
    burned: float,
    is_free: bool = False,
    waited: float = 0.0,
    is_same: bool = True,
) -> Worker:
    return Worker(Batch(), task_of(func), is_same, burned, is_free, waited)


def look(*workers: Worker, contested: bool = True, elsewhere: float = 0.0) -> Look:
    return Look(A_LOOK, contested, workers, elsewhere)


def is_holder(holders: Holders, func: Callable[..., object]) -> bool:
    return holders.is_one(id(function_of(task_of(func))))


def share(holders: Holders, func: Callable[..., object]) -> float:
    return holders.share(function_of(task_of(func)))


def blamed(func: Callable[..., object]) -> Holders:
    holders = Holders()
    while not is_holder(holders, func):
        holders.note(look(worker(func, A_LOOK)))
    return holders


def test_what_burns_while_others_wait_for_the_lock_holds_it() -> None:
    holders = Holders()
    assert not holders
    for _ in range(4):
        assert holders.note(look(worker(burns, A_LOOK / 2), worker(burns, A_LOOK / 2))) == []
    assert holders
    assert is_holder(holders, burns)
    assert not is_holder(holders, waits)


@pytest.mark.parametrize("burned", [A_LOOK, 0.0])
def test_what_those_do_that_still_run_side_by_side_clears_them_only_if_none_burns(
    burned: float,
) -> None:
    """They were at work before it was known, and the lock is to be had by chance."""
    holders = blamed(burns)
    for _ in range(20):
        at_work = worker(burns, burned), *(worker(burns, 0.0, waited=9.0) for _ in range(5))
        holders.note(look(*at_work, contested=False))
    assert is_holder(holders, burns) is bool(burned)


def test_what_waits_beside_it_does_not() -> None:
    """Not even if it burns a little from time to time, when nobody could tell whether it waited."""
    holders = Holders()
    for number in range(100):
        a_bit = 0.002 if number % 20 == 0 else 0.0
        waited = A_LOOK * (number % 20)
        holders.note(look(worker(burns, A_LOOK - a_bit), worker(waits, a_bit, waited=waited)))
    assert is_holder(holders, burns)
    assert not is_holder(holders, waits)
    assert share(holders, waits) < 0.2


def test_one_of_many_that_waits_for_the_lock_is_not_taken_for_one_that_sleeps() -> None:
    holders = Holders()
    for number in range(8):
        at_work = [
            worker(burns, A_LOOK if turn == number else 0.0, waited=A_LOOK * ((number - turn) % 8))
            for turn in range(8)
        ]
        holders.note(look(*at_work))
    assert is_holder(holders, burns)
    assert share(holders, burns) > 0.9


def test_what_burns_while_the_lock_is_another_s_holds_it_not() -> None:
    """Though that is seen only now and then."""
    holders = Holders()
    for number in range(100):
        is_free = number % 5 == 0
        holders.note(look(worker(burns, A_LOOK / 2), worker(packs, A_LOOK / 2, is_free)))
    assert is_holder(holders, burns)
    assert not is_holder(holders, packs)


def test_what_burns_while_the_lock_is_to_be_had_holds_it_not() -> None:
    holders = Holders()
    for _ in range(100):
        holders.note(look(worker(packs, A_LOOK), worker(packs, A_LOOK), contested=False))
    assert share(holders, packs) == 0.0


def test_more_than_one_lock_admits_tells_nothing_of_anybody() -> None:
    holders = Holders()
    for _ in range(100):
        holders.note(look(worker(packs, A_LOOK), worker(burns, A_LOOK)))
    assert not holders


def test_a_task_that_was_not_there_before_does_not_count() -> None:
    holders = Holders()
    for _ in range(100):
        holders.note(look(worker(burns, A_LOOK, is_same=False)))
    assert not holders
    assert len(holders) == 0


def test_where_there_is_little_of_a_processor_a_holder_is_found_as_soon() -> None:
    holders = Holders()
    looks = 0
    while not is_holder(holders, burns):
        holders.note(look(worker(burns, A_LOOK / 4), worker(burns, 0.0)))
        looks += 1
    assert looks <= 3


@pytest.mark.parametrize(
    ("burned", "elsewhere", "contested", "expected"),
    [
        (A_LOOK / 2, 0.0, True, 2.0),
        (A_LOOK / 2, A_LOOK / 2, True, 1.0),
        (A_LOOK / 2, A_LOOK, True, 1.0),
        (A_LOOK / 100, 0.0, True, 3.0),
        (0.0, 0.0, True, 1.0),
        (A_LOOK / 2, 0.0, False, 1.0),
    ],
)
def test_what_was_burned_stands_for_the_time_for_which_others_waited(
    burned: float, elsewhere: float, contested: bool, expected: float
) -> None:
    found = look(worker(burns, burned), contested=contested, elsewhere=elsewhere)
    assert scale(found) == pytest.approx(expected)


def test_one_that_was_blamed_wrongly_is_cleared_after_some_looks_at_it_alone() -> None:
    """Few tell nothing: it may have waited for a processor just then."""
    holders = blamed(packs)
    cleared: list[int] = []
    looks = 0
    while not cleared:
        cleared = holders.note(look(worker(packs, A_LOOK), contested=False))
        looks += 1
    assert 10 < looks < 20
    assert cleared == [id(packs.__code__)]
    assert not holders


def test_it_is_not_blamed_again_for_a_while() -> None:
    holders = blamed(packs)
    while holders:
        holders.note(look(worker(packs, A_LOOK), contested=False))
    for _ in range(50):
        holders.note(look(worker(packs, A_LOOK / 2), worker(waits, 0.0)))
    assert not holders
    for _ in range(500):
        holders.note(look(worker(packs, A_LOOK)))
    assert is_holder(holders, packs)


def test_a_holder_that_sleeps_now_is_none_any_more() -> None:
    holders = blamed(burns)
    for _ in range(200):
        holders.note(look(worker(burns, A_LOOK)))
    looks = 0
    while is_holder(holders, burns):
        holders.note(look(worker(burns, 0.0, waited=1.0), worker(burns, 0.0, waited=1.0)))
        looks += 1
    assert looks < 200


def test_a_holder_stays_one_though_the_lock_is_to_be_had_at_times() -> None:
    holders = blamed(burns)
    for number in range(200):
        holders.note(look(worker(burns, A_LOOK), contested=number % 4 != 0))
    assert is_holder(holders, burns)


def test_functions_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where each task brings a new one; a holder that is forgotten is to be let go."""
    monkeypatch.setattr(module, "_FUNCTIONS", 3)
    holders = blamed(burns)
    made: list[Any] = []
    cleared: list[int] = []
    for _ in range(5):
        space: dict[str, Any] = {}
        exec("def made(): ...", space)
        made.append(space["made"])
        cleared += holders.note(look(worker(made[-1], 0.0)))
    assert len(holders) == 3
    assert cleared == [id(burns.__code__)]
    assert not holders


class Callables:
    """What can be called."""

    def method(self) -> None: ...

    def __call__(self) -> None: ...


@functools.wraps(burns)
def wrapper() -> None: ...


def around(func: Any) -> Any:
    @functools.wraps(func)
    def wrapped() -> None: ...

    return wrapped


class Wrapper(TaskWrapper):
    def __call__(self) -> None: ...

    def unwrap(self, task: Task) -> Call:
        return Call(burns, (), {})


class Broken(Wrapper):
    def unwrap(self, task: Task) -> Call:
        raise SystemExit


@pytest.mark.parametrize(
    ("func", "expected"),
    [
        (burns, burns.__code__),
        (functools.partial(functools.partial(adds, 1), 2), adds.__code__),
        (Callables().method, Callables.method.__code__),
        (around(around(burns)), burns.__code__),
        (around(waits), waits.__code__),
        (Callables(), Callables),
        (Wrapper(), burns.__code__),
        (Broken(), Broken),
        (EnqueueCall(Callables()), Callables),
        (zlib.compress, zlib.compress),
        (time.sleep, time.sleep),
        ([].append, type([].append)),
    ],
)
def test_what_tasks_of_the_same_code_have_in_common(func: Any, expected: object) -> None:
    assert function_of(task_of(func)) is expected


def test_functions_made_for_each_request_are_one() -> None:
    def make(number: int) -> Callable[[], int]:
        return lambda: number

    assert function_of(task_of(make(1))) is function_of(task_of(make(2)))


def test_wrappers_around_themselves_are_looked_through_for_a_while() -> None:
    def func() -> None: ...

    func.__wrapped__ = func  # type: ignore[attr-defined]
    assert function_of(task_of(func)) is func.__code__
