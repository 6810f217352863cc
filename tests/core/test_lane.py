"""The lane of tasks that hold the interpreter's lock, as a state machine: no thread, no clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import Context

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgadapters.core.control.lane import Lane
from bgadapters.core.control.parked import Parked
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.task import Task

A, B = 1, 2
"""The ids of two functions."""


class Entry:
    """A batch with one task, as its driver sees it."""

    def __init__(self, lane: Lane, function: int = A, priority: int = 0) -> None:
        self.lane = lane
        self.function = function
        self.batch = Batch(priority=priority)
        self.task = Task(print, (), Context())
        self.batch.add(self.task)
        self.batch.release(lambda: None)
        self.resumed = self.ended = 0

    def resume(self) -> None:
        self.resumed += 1

    def end(self) -> None:
        self.ended += 1

    def take(self) -> bool:
        if not self.lane.is_granted(self.batch, self.batch.first()):
            self.give_back()
        if not self.lane.take(self.batch, self.task, self.function, self.resume, self.end):
            return False
        return self.batch.take(False) is not None

    def give_back(self) -> None:
        for go_on in self.lane.give_back(self.batch):
            go_on()


def call(resumes: Iterable[Callable[[], object]]) -> None:
    for each in resumes:
        each()


@pytest.fixture
def lane() -> Lane:
    return Lane()


def test_one_runs_and_the_next_goes_on_when_it_has_ended(lane: Lane) -> None:
    first, second, third = (Entry(lane) for _ in range(3))
    assert [each.take() for each in (first, second, third)] == [True, False, False]
    assert lane.has_line
    carrier = second.batch.carrier
    assert isinstance(carrier, Parked)
    first.give_back()
    assert (second.resumed, third.resumed) == (1, 0)
    assert second.batch.carrier is None
    assert lane.is_granted(second.batch, second.task)
    assert second.take()
    assert not lane.is_granted(second.batch, second.task)
    second.give_back()
    assert third.resumed == 1
    assert not lane.has_line


def test_who_comes_while_others_wait_waits_as_well(lane: Lane) -> None:
    first, second, third = (Entry(lane) for _ in range(3))
    assert first.take()
    assert not second.take()
    first.give_back()  # it is the second's, which has not come for it
    assert not third.take()


def test_functions_take_turns(lane: Lane) -> None:
    running = Entry(lane)
    assert running.take()
    many = [Entry(lane, A) for _ in range(3)]
    other = Entry(lane, B)
    assert not any(each.take() for each in (*many, other))
    running.give_back()
    assert other.resumed == 1
    assert other.take()
    other.give_back()
    assert [each.resumed for each in many] == [1, 0, 0]


def test_those_of_a_higher_priority_go_first(lane: Lane) -> None:
    running = Entry(lane)
    assert running.take()
    plain, urgent = Entry(lane, B), Entry(lane, A, priority=5)
    assert [plain.take(), urgent.take()] == [False, False]
    running.give_back()
    assert (plain.resumed, urgent.resumed) == (0, 1)


def test_where_those_that_run_leave_the_lock_free_more_may_run(lane: Lane) -> None:
    """So one that waits for another one, which waits for its turn, goes on in the end."""
    entries = [Entry(lane) for _ in range(4)]
    assert [each.take() for each in entries] == [True, False, False, False]
    looks = 0
    while not entries[3].resumed:
        call(lane.adjust(0.0))
        for each in entries:
            if lane.is_granted(each.batch, each.task):
                assert each.take()
        looks += 1
    assert 4 <= looks <= 8  # what one does is to be seen before the next
    assert lane.width == 4


def test_one_that_has_a_place_and_no_worker_yet_is_waited_for(lane: Lane) -> None:
    first, second, third = (Entry(lane) for _ in range(3))
    assert [each.take() for each in (first, second, third)] == [True, False, False]
    for _ in range(10):
        call(lane.adjust(0.0))
    assert (second.resumed, third.resumed) == (1, 0)


def test_where_they_hold_it_all_the_time_there_are_fewer_again(lane: Lane) -> None:
    entries = [Entry(lane) for _ in range(3)]
    assert entries[0].take()
    assert [each.take() for each in entries[1:]] == [False, False]
    while not entries[1].resumed:
        call(lane.adjust(0.0))
    assert entries[1].take()
    for _ in range(3):
        call(lane.adjust(1.0))
    assert lane.width == 1
    entries[0].give_back()
    assert [each.resumed for each in entries] == [0, 1, 0]
    entries[1].give_back()
    assert [each.resumed for each in entries] == [0, 1, 1]


def test_nothing_is_learned_while_none_of_them_runs(lane: Lane) -> None:
    for _ in range(10):
        call(lane.adjust(0.0))
    first, second = Entry(lane), Entry(lane)
    assert first.take()
    assert not second.take()
    call(lane.adjust(1.0))
    assert not second.resumed
    assert lane.width == 1


def test_those_of_a_function_that_is_cleared_go_on_at_once(lane: Lane) -> None:
    running, same, other = Entry(lane, A), Entry(lane, A), Entry(lane, B)
    assert [each.take() for each in (running, same, other)] == [True, False, False]
    call(lane.release([A]))
    assert (same.resumed, other.resumed) == (1, 1)  # the one that ran counts no longer
    assert same.batch.carrier is None
    running.give_back()
    call(lane.release([A]))


def test_a_drain_that_gives_up_takes_it_out_of_the_line(lane: Lane) -> None:
    running, parked = Entry(lane), Entry(lane)
    assert running.take()
    assert not parked.take()
    carrier = parked.batch.carrier
    assert carrier is not None
    carrier.rescue()  # which a closed loop has no part in
    carrier.abandon()
    carrier.abandon()
    assert (parked.ended, parked.resumed) == (1, 0)
    assert not lane.has_line


def test_a_task_that_was_taken_meanwhile_does_not_wait(lane: Lane) -> None:
    running, other = Entry(lane), Entry(lane)
    assert running.take()
    other.batch.withdraw(other.task)
    assert lane.take(other.batch, other.task, A, other.resume, other.end)
    assert not lane.has_line


def test_a_forked_child_starts_with_an_empty_lane(lane: Lane) -> None:
    assert Entry(lane).take()
    assert not Entry(lane).take()
    lane.reset_after_fork()
    assert Entry(lane).take()


class Lanes(RuleBasedStateMachine):
    """Whatever happens in whatever order, nobody waits for ever and nobody is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.lane = Lane()
        self.running: list[Entry] = []
        self.waiting: list[Entry] = []

    @rule(function=st.sampled_from([A, B]), priority=st.integers(-1, 1))
    def come(self, function: int, priority: int) -> None:
        entry = Entry(self.lane, function, priority)
        (self.running if entry.take() else self.waiting).append(entry)

    @precondition(lambda self: self.running)
    @rule(number=st.integers(0))
    def end(self, number: int) -> None:
        self.running.pop(number % len(self.running)).give_back()
        self.go_on()

    @rule(held=st.floats(0, 2))
    def adjust(self, held: float) -> None:
        call(self.lane.adjust(held))
        self.go_on()

    @rule(function=st.sampled_from([A, B]))
    def release(self, function: int) -> None:
        call(self.lane.release([function]))
        self.go_on()

    @precondition(lambda self: self.waiting)
    @rule(number=st.integers(0))
    def abandon(self, number: int) -> None:
        entry = self.waiting.pop(number % len(self.waiting))
        carrier = entry.batch.carrier
        assert carrier is not None
        carrier.abandon()
        assert (entry.ended, entry.resumed) == (1, 0)

    def go_on(self) -> None:
        for entry in [each for each in self.waiting if each.resumed]:
            assert entry.resumed == 1
            self.waiting.remove(entry)
            if entry.take():
                self.running.append(entry)
            else:  # it was let go on by a release, and is put into line again
                entry.resumed = 0
                self.waiting.append(entry)

    @invariant()
    def nobody_waits_where_nobody_runs(self) -> None:
        assert self.running or not self.waiting
        assert self.lane.has_line == bool(self.waiting)


TestLanes = Lanes.TestCase
TestLanes.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
