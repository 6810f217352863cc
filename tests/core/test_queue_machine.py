"""The queue against a model of it: whatever is done to it, each task runs once or not at all."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bgadapters import BackgroundTasks, QueueClosedError
from bgadapters.adapters import Runtime


class QueueMachine(RuleBasedStateMachine):
    """The model: tasks that wait, tasks that ran, and whether the queue is open."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime = Runtime()
        self.queue = BackgroundTasks(runtime=self.runtime)
        self.is_open = True
        self.added = 0
        self.waiting: list[tuple[int, bool]] = []
        self.expected: list[Any] = []
        self.ran: list[Any] = []

    def teardown(self) -> None:
        if self.is_open:
            self.queue.close(KeyError("the end"))
        self.runtime.drain(10)

    def make(self, is_async: bool, adds: bool) -> Any:
        number = self.added

        def call() -> None:
            self.ran.append(number)
            if adds:
                self.queue.add_task(self.ran.append, (number, "added"))

        async def acall() -> None:
            await asyncio.sleep(0)
            call()

        return acall if is_async else call

    def finish(self) -> None:
        tasks = [number for number, _ in self.waiting]
        self.expected = tasks + [(number, "added") for number, adds in self.waiting if adds]
        self.waiting = []
        self.is_open = False

    @rule(is_async=st.booleans(), always=st.booleans(), adds=st.booleans(), foreign=st.booleans())
    def add(self, is_async: bool, always: bool, adds: bool, foreign: bool) -> None:
        task = self.make(is_async, adds)
        adder = self.queue.options(always=always)
        if not self.is_open:
            with pytest.raises(QueueClosedError):
                adder.add_task(task)
            return
        if foreign:
            thread = threading.Thread(target=adder.add_task, args=(task,))
            thread.start()
            thread.join()
        else:
            adder.add_task(task)
        self.waiting.append((self.added, adds))
        self.always = {*getattr(self, "always", ()), *([self.added] if always else [])}
        self.added += 1

    @rule()
    def drop(self) -> None:
        self.queue.discard(KeyError("view"))
        if self.is_open:
            self.waiting = [w for w in self.waiting if w[0] in getattr(self, "always", ())]

    @rule(awaits=st.booleans())
    def release(self, awaits: bool) -> None:
        if awaits:
            asyncio.run(self.queue.arelease())
        else:
            self.queue.release()
        if self.is_open:
            self.finish()

    @rule()
    def discard(self) -> None:
        if self.is_open:
            self.drop()
        self.queue.close(KeyError("response"))
        if self.is_open:
            self.finish()

    @precondition(lambda self: not self.is_open)
    @rule()
    def wait(self) -> None:
        assert self.runtime.drain(10) == []
        assert self.ran == self.expected
        assert (self.runtime.in_flight.in_use, self.runtime.in_flight.live()) == (0, [])

    @invariant()
    def nothing_runs_early_or_twice(self) -> None:
        if self.is_open:
            assert self.ran == []
            assert len(self.queue) == len(self.waiting)
        assert self.ran == self.expected[: len(self.ran)]


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
TestQueueMachine = QueueMachine.TestCase
