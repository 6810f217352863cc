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
from bgadapters.core.model.options import RunOn


class QueueMachine(RuleBasedStateMachine):
    """The model: tasks that wait, tasks that ran, and whether the queue is open."""

    def __init__(self) -> None:
        super().__init__()
        self.runtime = Runtime()
        self.queue = BackgroundTasks(runtime=self.runtime)
        self.is_open = True
        self.added = 0
        self.has_failed = False
        self.waiting: list[tuple[Any, bool, RunOn]] = []  # what it notes, whether it adds a task
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
        tasks = [w for w in self.waiting if self.has_failed or w[2] != "error"]
        self.expected += [number for number, _, _ in tasks]
        self.expected += [(number, "added") for number, adds, _ in tasks if adds]
        self.waiting = []
        self.is_open = False

    @rule(
        is_async=st.booleans(),
        run_on=st.sampled_from(["success", "error", "always"]),
        adds=st.booleans(),
        foreign=st.booleans(),
    )
    def add(self, is_async: bool, run_on: RunOn, adds: bool, foreign: bool) -> None:
        task = self.make(is_async, adds)
        adder = self.queue.options(run_on=run_on)
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
        self.waiting.append((self.added, adds, run_on))
        self.added += 1

    @rule(on_a_loop=st.booleans())
    def flush(self, on_a_loop: bool) -> None:
        async def flush() -> list[str]:
            self.queue.flush()
            return await self.runtime.adrain(10)

        if on_a_loop:
            assert asyncio.run(flush()) == []
        else:
            self.queue.flush()
            assert self.runtime.drain(10) == []
        if self.is_open:
            flushed = [w for w in self.waiting if w[2] != "error"]
            self.expected += [number for number, _, _ in flushed]
            more: list[tuple[Any, bool, RunOn]] = [
                ((number, "added"), False, "success") for number, adds, _ in flushed if adds
            ]
            self.waiting = [w for w in self.waiting if w[2] == "error"] + more
            assert self.ran == self.expected

    @rule()
    def drop(self) -> None:
        self.queue.discard(KeyError("view"))
        if self.is_open:
            self.has_failed = True
            # What is for a response that fails need not wait any longer to know.
            self.waiting = [(n, adds, "always") for n, adds, on in self.waiting if on != "success"]

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
            assert self.ran == self.expected
            assert len(self.queue) == len(self.waiting)
        assert self.ran == self.expected[: len(self.ran)]


QueueMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)
TestQueueMachine = QueueMachine.TestCase
