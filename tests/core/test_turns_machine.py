"""Keys, limits, the lane, delays, retries, discards, drains: each task ends once, and is told."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from bgadapters import BackgroundTasks, TaskEvent
from bgadapters.adapters import Runtime, parse_settings
from tests.core.conftest import stop_loop
from tests.core.test_in_nobodys_way import Application
from tests.core.test_limits import Gauge, places
from tests.core.ways import PATIENCE

LIMITS = {"one": 1, "two": 2}
ENDS = {"succeeded", "failed", "discarded", "replaced", "abandoned"}

options = st.fixed_dictionaries(
    {},
    optional={
        "key": st.sampled_from("ab"),
        "on_duplicate": st.sampled_from(["replace", "keep"]),
        "concurrency": st.sampled_from(sorted(LIMITS)),
        "priority": st.sampled_from([-1, 0, 7]),
        "delay": st.sampled_from([0, 0.002, 1000.0]),
        "retries": st.integers(0, 2),
        "always": st.booleans(),
    },
)


class TurnsMachine(RuleBasedStateMachine):
    """What was added, what has run, and what was told, by the name of each task."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[TaskEvent] = []
        self.runtime = Runtime(
            parse_settings(
                {"concurrency": LIMITS, "max_workers": 2, "on_event": self.events.append}
            )
        )
        self.gauges = {name: Gauge() for name in LIMITS}
        self.queues: list[BackgroundTasks] = []
        self.added: list[str] = []
        self.calls: Counter[str] = Counter()

    def make(self, name: str, limit: str | None, is_async: bool, fails: int) -> Any:
        gauge = self.gauges[limit] if limit else Gauge()

        def end() -> None:
            self.calls[name] += 1
            if self.calls[name] <= fails:
                raise OSError

        def call() -> None:
            with gauge.running():
                end()

        async def acall() -> None:
            with gauge.running():
                await asyncio.sleep(0)
                end()

        return acall if is_async else call

    @rule(
        new=st.booleans(),
        given=options,
        is_async=st.booleans(),
        fails=st.integers(0, 2),
        data=st.data(),
    )
    def add(
        self, new: bool, given: dict[str, Any], is_async: bool, fails: int, data: st.DataObject
    ) -> None:
        if new or not self.queues:
            self.queues.append(BackgroundTasks(runtime=self.runtime))
        queue = data.draw(st.sampled_from(self.queues))
        name = str(len(self.added))
        func = self.make(name, given.get("concurrency"), is_async, fails)
        # A number would be spread at random, in a thread, while Hypothesis minds its own numbers.
        queue.options(name=name, backoff=lambda *_: 0.001, **given).add_task(func)
        self.added.append(name)

    @precondition(lambda self: self.queues)
    @rule(awaits=st.booleans(), data=st.data())
    def release(self, awaits: bool, data: st.DataObject) -> None:
        queue = self.take(data)
        if awaits:
            asyncio.run(asyncio.wait_for(self.await_and_drain(queue), PATIENCE))
        else:
            queue.release()

    async def await_and_drain(self, queue: BackgroundTasks) -> None:
        await queue()
        await self.runtime.adrain(PATIENCE)

    @precondition(lambda self: self.queues)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        self.take(data).close(KeyError("view"))

    def take(self, data: st.DataObject) -> BackgroundTasks:
        place = data.draw(st.integers(0, len(self.queues) - 1))
        return self.queues.pop(place)

    @rule(key=st.sampled_from("ab"))
    def forget(self, key: str) -> None:
        BackgroundTasks(runtime=self.runtime).forget(key)

    @rule(timeout=st.sampled_from([0.02, PATIENCE]))
    def drain(self, timeout: float) -> None:
        self.runtime.drain(timeout)

    def teardown(self) -> None:
        for queue in self.queues:
            queue.release()
        self.runtime.drain(PATIENCE)
        stop_loop(self.runtime)
        ends = Counter(event.name for event in self.events if event.kind in ENDS)
        assert ends == Counter(self.added)
        succeeded = {event.name for event in self.events if event.kind == "succeeded"}
        assert succeeded <= set(self.calls)
        assert {n: gauge.peak for n, gauge in self.gauges.items() if gauge.peak > LIMITS[n]} == {}
        assert places(self.runtime) == 0
        assert len(self.runtime.scheduler.turns._keys) == 0
        assert (self.runtime.in_flight.in_use, self.runtime.in_flight.live()) == (0, [])


class LaneMachine(TurnsMachine):
    """The same, where all sync tasks are known to hold the interpreter's lock."""

    def __init__(self) -> None:
        super().__init__()
        self.app = Application(self.runtime)
        self.app.blame(self.make("", None, False, 0))

    def teardown(self) -> None:
        super().teardown()
        self.app.steps.end()
        assert not self.app.turns._lane._members
        assert not self.app.turns._lane.has_line


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> Any:
    logging.getLogger("bgadapters").setLevel(logging.CRITICAL)
    yield
    logging.getLogger("bgadapters").setLevel(logging.NOTSET)


TurnsMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=15, deadline=None)
TestTurnsMachine = TurnsMachine.TestCase
LaneMachine.TestCase.settings = TurnsMachine.TestCase.settings
TestLaneMachine = LaneMachine.TestCase
