"""The state machine alone, without threads, loops or a runtime: whatever is done, in any order."""

from __future__ import annotations

import threading
from contextvars import Context
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bgadapters import QueueClosedError, QueueFullError
from bgadapters.adapters import Batch, Options, Precondition, Task
from bgadapters.core.model.batch import BEGINS, NOTHING, Effects
from bgadapters.core.model.batch_state import CLOSED, DONE, HELD, OPEN, RUNNING
from bgadapters.core.model.control import ControlledTask
from bgadapters.core.model.record import Record
from bgadapters.core.model.task import FullTask, made

OWN_LIMIT = 1


def noop() -> None: ...


class BatchMachine(RuleBasedStateMachine):
    """What is known of each task, kept beside the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.batch = Batch()
        self.apart: list[Task] = []  # leave the order
        self.added: list[Task] = []  # in order
        self.ends: dict[Task, str] = {}
        self.conditions: dict[Precondition, bool | None] = {}
        self.own = 0
        self.taken = 0  # capacity taken for the batch and not given back
        self.intercepted: list[Task] = []
        self.released_again = 0
        self.was_released = False
        self.called_back = 0

    # What is done to it.

    def task(self, is_async: bool, always: bool) -> Task:
        return made(noop, (), None, Context(), Options(always=always), is_async)

    def end(self, tasks: Any, how: str) -> None:
        for task in tasks:
            assert task not in self.ends, f"{how} after it was {self.ends[task]}"
            self.ends[task] = how

    def perform(self, effects: Effects, how: str) -> None:
        self.end(effects.discarded, how)
        self.taken -= effects.freed
        for each in effects.apart:
            tasks = each.left()
            self.taken -= each.capacity
            if set(tasks) <= set(self.apart):  # else those that wait for a precondition
                (task,) = tasks
                assert each.release(lambda: None) is BEGINS
                assert each.priority == task.options.priority
            self.end(tasks, "set apart")

    def release(self) -> None:
        must_wait = self.batch.state in {OPEN, HELD} and any(
            self.conditions[each] is None for each in self.batch.preconditions
        )
        effects = self.batch.release(self.release_again)
        assert not must_wait or self.batch.state is HELD
        self.perform(effects, "failed")
        self.was_released |= self.batch.state in {RUNNING, DONE}
        assert effects.begins is (effects is not NOTHING and self.batch.state is RUNNING)

    def release_again(self) -> None:
        self.released_again += 1
        self.release()

    @initialize(kinds=st.lists(st.booleans(), max_size=4))
    def begin_with_some(self, kinds: list[bool]) -> None:
        for is_async in kinds:
            self.added.append(self.task(is_async, always=False))
            self.batch.add(self.added[-1])

    @rule(is_async=st.booleans(), always=st.booleans(), capacity=st.integers(0, 1), data=st.data())
    def add(self, is_async: bool, always: bool, capacity: int, data: st.DataObject) -> None:
        task = self.task(is_async, always)
        known = list(self.conditions)
        chosen = data.draw(st.lists(st.sampled_from(known), unique=True)) if known else []
        chosen = [each for each in chosen if each in self.batch.preconditions]
        if data.draw(st.booleans()) and self.batch.is_open:
            chosen.append(Precondition())
        if not self.batch.is_open:
            try:
                self.batch.add(task, (), capacity)
            except QueueClosedError:
                return
            raise AssertionError("a batch that was released took a task of nobody's")
        self.batch.add(task, chosen, capacity)
        self.conditions |= {each: self.conditions.get(each) for each in chosen}
        self.added.append(task)
        self.taken += capacity

    @precondition(lambda self: self.batch.running is not None)
    @rule(is_async=st.booleans(), capacity=st.integers(0, 1))
    def add_by_its_own_task(self, is_async: bool, capacity: int) -> None:
        task = self.task(is_async, always=False)
        try:
            self.batch.add(task, (), capacity, OWN_LIMIT)
        except QueueFullError:
            assert self.own == OWN_LIMIT
            return
        except QueueClosedError:
            assert self.batch.state is not RUNNING
            return
        self.own += 1
        assert self.own <= OWN_LIMIT
        self.added.append(task)
        self.taken += capacity

    @rule()
    def release_it(self) -> None:
        self.release()

    @rule()
    def discard(self) -> None:
        was_open = self.batch.is_open
        effects = self.batch.discard(KeyError("view"))
        assert was_open or effects is NOTHING
        assert not any(task.options.always for task in effects.discarded)
        self.perform(effects, "discarded")
        assert self.batch.is_open is was_open

    @rule(rarely=st.integers(0, 9))
    def close_if_empty(self, rarely: int) -> None:
        if rarely:  # or most batches would end here
            return
        waits = bool(len(self.batch))
        assert self.batch.close_if_empty() is not (self.batch.is_open and waits)

    @rule(rarely=st.integers(0, 9))
    def remove(self, rarely: int) -> None:
        if rarely:
            return
        self.perform(self.batch.remove(), "removed")

    @precondition(lambda self: self.batch.is_open)
    @rule(priority=st.sampled_from([-1, 1]), capacity=st.integers(0, 1))
    def add_apart(self, priority: int, capacity: int) -> None:
        options = Options(priority=priority)
        task = ControlledTask(
            FullTask(noop, (), None, Context(), options), Record(self.batch, None), ()
        )
        self.batch.add_apart(task, (), capacity)
        self.apart.append(task)
        self.added.append(task)
        self.taken += capacity

    @precondition(lambda self: self.unresolved())
    @rule(fulfilled=st.booleans(), elsewhere=st.booleans(), data=st.data())
    def resolve(self, fulfilled: bool, elsewhere: bool, data: st.DataObject) -> None:
        condition = data.draw(st.sampled_from(self.unresolved()))
        self.conditions[condition] = fulfilled
        if elsewhere:
            thread = threading.Thread(target=condition.resolve, args=(fulfilled,))
            thread.start()
            thread.join()
        else:
            condition.resolve(fulfilled)
        condition.resolve(not fulfilled)  # too late

    def unresolved(self) -> list[Precondition]:
        return [each for each, outcome in self.conditions.items() if outcome is None]

    # What a driver and a drain do.

    @precondition(lambda self: self.batch.state is RUNNING)
    @rule(is_async=st.booleans())
    def take(self, is_async: bool) -> None:
        if self.batch.preconditions:
            self.perform(self.batch.take_failed(), "failed")
        waiting = self.batch.left()[bool(self.batch.running) :]
        task = self.batch.take(is_async)
        if task is None:
            assert not waiting or waiting[0].is_async is not is_async
            return
        assert task is waiting[0]
        assert self.batch.running is task
        self.end([task], "taken")

    @precondition(lambda self: self.batch.state is RUNNING)
    @rule()
    def finish(self) -> None:
        finished = self.batch.finish()
        assert (finished is None) is bool(len(self.batch))
        if finished is not None:
            capacity, succeeded, callbacks = finished
            assert 0 <= succeeded <= capacity
            self.taken -= capacity
            for callback in callbacks:
                callback()
            assert self.batch.running is None

    @rule()
    def on_finished(self) -> None:
        runs = self.batch.state is RUNNING
        assert self.batch.on_finished(self.called) is runs

    def called(self) -> None:
        assert self.batch.state is DONE
        self.called_back += 1

    @precondition(lambda self: self.batch.state is RUNNING and self.batch.running is None)
    @rule()
    def intercept(self) -> None:
        effects = self.batch.intercept()
        self.intercepted += effects.discarded
        self.taken -= effects.freed

    @precondition(lambda self: self.intercepted and self.batch.state in {RUNNING, DONE})
    @rule()
    def put_back(self) -> None:
        was_running = self.batch.state is RUNNING
        assert self.batch.put_back(self.intercepted) is not was_running
        self.added = [t for t in self.added if t not in self.intercepted] + self.intercepted
        self.intercepted = []

    @precondition(lambda self: self.batch.state is RUNNING)
    @rule()
    def abandon(self) -> None:
        running = self.batch.running
        left = self.batch.abandon()
        assert len(self.batch) == 0
        self.end([task for task in left if task is not running], "abandoned")

    # What is promised.

    @invariant()
    def none_runs_before_its_response_is_over(self) -> None:
        """Promise 2."""
        if not self.was_released:
            assert "taken" not in self.ends.values()

    @invariant()
    def they_run_in_the_order_added(self) -> None:
        """Promise 4."""
        order = [task for task in self.added if self.ends.get(task) == "taken"]
        assert order == [task for task in self.ends if self.ends[task] == "taken"]

    @invariant()
    def what_waits_is_what_has_not_ended(self) -> None:
        """Promise 7: none twice, and none lost; `end` sees that each ends once."""
        waiting = self.batch.left()[bool(self.batch.running) :]
        if not self.batch.is_abandoned:
            left = [t for t in self.added if t not in self.ends and t not in self.intercepted]
            assert waiting == left
        assert not set(waiting) & set(self.ends)

    @invariant()
    def none_runs_whose_precondition_was_not_fulfilled(self) -> None:
        """Promise 11."""
        for condition, outcome in self.conditions.items():
            if not outcome:
                for task in condition.tasks:
                    assert task.options.always or self.ends.get(task) != "taken"

    @invariant()
    def a_batch_is_held_only_while_something_is_not_resolved(self) -> None:
        """Promise 11."""
        if self.batch.state is HELD:
            assert self.unresolved()

    @invariant()
    def what_was_taken_of_the_capacity_is_held_or_given_back(self) -> None:
        """Promise 12."""
        assert self.batch.capacity == self.taken
        if self.batch.state in {DONE, CLOSED} and not self.intercepted:
            assert self.taken == 0 or self.batch.state is DONE

    @invariant()
    def what_leaves_the_order_is_run_by_no_other(self) -> None:
        """Promise 6."""
        assert all(self.ends.get(task) != "taken" for task in self.apart)


BatchMachine.TestCase.settings = settings(max_examples=250, stateful_step_count=25, deadline=None)
TestBatchMachine = BatchMachine.TestCase


def test_there_is_nothing_to_take_where_a_drain_has_just_taken_it() -> None:
    batch = Batch()
    batch.add(Task(noop, (), Context()))
    batch.release(lambda: None)
    batch.abandon()
    assert batch.take(is_async=False) is None
    assert batch.running is None
