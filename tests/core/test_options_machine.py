"""All options together, whatever is done to the queues: each task ends once, and is told of once.

Times pass when the machine says so, save for timeouts that a task waits for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from bgadapters import BackgroundTasks, QueueClosedError, TaskEvent
from bgadapters.adapters import (
    Batch,
    FrameworkHooks,
    LiveTasks,
    Precondition,
    Runtime,
    parse_settings,
)
from bgadapters.core.app import drainer
from bgadapters.core.app.stats import _stats_of
from tests.core.any_task import LATER, SOON, SPECS, HandTimer, Job, Spec, expected
from tests.core.conftest import stop_loop
from tests.core.test_in_nobodys_way import Application
from tests.core.test_limits import Gauge, places
from tests.core.ways import PATIENCE

LIMITS = {"one": 1, "two": 2}
EXAMPLES = int(os.environ.get("MACHINE_EXAMPLES", "80"))  # `make test-load` has more of them
STEPS = 20 if EXAMPLES < 1000 else 40


class Transaction:
    """What tasks wait for that are added while it is open."""

    def __init__(self) -> None:
        self.made: list[Precondition] = []
        self.jobs: list[Job] = []

    def preconditions(self, batch: Batch) -> Sequence[Precondition]:
        for each in batch.preconditions:
            if each in self.made:
                return [each]
        self.made.append(Precondition())
        return self.made[-1:]


class Queue:
    """A queue that is open, and what has made its response fail."""

    def __init__(self, tasks: BackgroundTasks) -> None:
        self.tasks = tasks
        self.failures: list[BaseException] = []


class OptionsMachine(RuleBasedStateMachine):
    """Queues that are open, jobs by name, and what may have kept them from running."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: dict[str, Job] = {}
        self.queue_of: dict[str, Queue] = {}
        self.failed: set[str] = set()  # jobs that waited where a response has failed
        self.rolled_back: set[str] = set()
        self.added = 0
        self.open: list[Queue] = []
        self.faults: list[str] = []
        self.jumps: list[float] = []
        self.born: dict[str, int] = {}  # how many jumps there were before
        self.abandoned: list[str] = []
        self.lets_go = False  # whether no gate is closed
        self.transaction: Transaction | None = None
        self.draining: threading.Thread | None = None
        self._adds_in: Transaction | None = None

    @initialize(on_full=st.sampled_from(["run", "reject"]))
    def begin(self, on_full: str) -> None:
        given = {
            "concurrency": LIMITS,
            "max_workers": 2,
            "on_event": self.note,
            "on_full": on_full,
        }
        hooks = FrameworkHooks(preconditions=self.preconditions)
        self.runtime = Runtime(parse_settings(given), hooks)
        scheduler = self.runtime.scheduler
        self.timer = scheduler.later._timer = HandTimer(scheduler._start_due)
        self.gauges = {name: Gauge() for name in LIMITS}

    # What the application does and hears.

    def note(self, event: TaskEvent) -> None:
        # Another thread may start and end what is added to a queue that runs, before this is told.
        if event.kind != "added":
            self.jobs[event.name].note(event)

    def preconditions(self, batch: Batch) -> Sequence[Precondition]:
        """What is added in this thread is added in the transaction that is open."""
        if self._adds_in is None or threading.current_thread() is not threading.main_thread():
            return ()
        return self._adds_in.preconditions(batch)

    def put(self, queue: Queue, spec: Spec, name: str) -> Job:
        """Add a task, as a rule does or another task."""
        job = self.jobs[name] = Job(name, spec, self.gauges, self.faults, self.act)
        if self.lets_go:
            job.gate.open()
        self.queue_of[name] = queue
        self.born[name] = len(self.jumps)
        options = dict(spec.options)
        if options.get("delay") and len(spec.does) % 2:  # the same, said in another way
            options["run_after"] = datetime.now(UTC) + timedelta(seconds=options.pop("delay"))
        try:
            queue.tasks.options(name=name, **options).add_task(job.func())
        except BaseException:
            del self.jobs[name]
            raise
        return job

    def act(self, job: Job) -> None:
        """What a task does in its first attempt."""
        queue = self.queue_of[job.name]
        if job.spec.forgets is not None:
            queue.tasks.forget(job.spec.forgets)
        if job.spec.child is not None:
            # A drain may have given up on it, or its connection has no response that could fail.
            with suppress(QueueClosedError, TypeError):
                self.put(queue, job.spec.child, f"{job.name}'s")

    # What is done to it.

    @rule(specs=st.lists(SPECS, min_size=1, max_size=3), is_live=st.booleans())
    def open_queue(self, specs: list[Spec], is_live: bool) -> None:
        kind = LiveTasks if is_live else BackgroundTasks
        self.open.append(Queue(kind(runtime=self.runtime)))
        for spec in specs:
            self.add_to(self.open[-1], spec)

    @precondition(lambda self: self.open)
    @rule(spec=SPECS, data=st.data())
    def add(self, spec: Spec, data: st.DataObject) -> None:
        self.add_to(data.draw(st.sampled_from(self.open)), spec)

    def add_to(self, queue: Queue, spec: Spec) -> None:
        self.added += 1
        name, is_live = str(self.added), isinstance(queue.tasks, LiveTasks)
        if is_live and spec.options.get("run_on") == "error":
            with pytest.raises(TypeError, match="run_on='error'"):
                self.put(queue, spec, name)
            return
        self._adds_in = None if is_live else self.transaction
        job = self.put(queue, spec, name)
        if self._adds_in is not None and spec.options.get("on_commit", True):
            self._adds_in.jobs.append(job)
        self._adds_in = None

    @rule()
    def begin_transaction(self) -> None:
        self.transaction = self.transaction or Transaction()

    @precondition(lambda self: self.transaction)
    @rule(commits=st.booleans())
    def end_transaction(self, commits: bool) -> None:
        assert self.transaction is not None
        if not commits:
            self.rolled_back.update(job.name for job in self.transaction.jobs)
        ended, self.transaction = self.transaction, None
        for each in ended.made:
            each.resolve(commits)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), closes=st.booleans())
    def fail(self, data: st.DataObject, closes: bool) -> None:
        queue = data.draw(st.sampled_from(self.open))
        failure = KeyError("view")
        queue.failures.append(failure)
        if not isinstance(queue.tasks, LiveTasks):
            self.failed.update(name for name in list(self.jobs) if self.queue_of[name] is queue)
        if closes:
            self.open.remove(queue)
            queue.tasks.close(failure)
        else:
            queue.tasks.discard(failure)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def flush(self, data: st.DataObject) -> None:
        data.draw(st.sampled_from(self.open)).tasks.flush()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), how=st.sampled_from(["here", "on a loop that ends", "awaited"]))
    def release(self, data: st.DataObject, how: str) -> None:
        queue = data.draw(st.sampled_from(self.open))
        self.open.remove(queue)
        self.end(queue, how)

    def end(self, queue: Queue, how: str = "here") -> None:
        if isinstance(queue.tasks, LiveTasks):
            queue.tasks.end()
        if how == "here":
            queue.tasks.release()
            return
        if how == "awaited" and self.transaction is not None:
            self.end_transaction(True)
        self.lets_go = True
        self.open_gates()
        asyncio.run(asyncio.wait_for(self.release_on_a_loop(queue, how), 2 * PATIENCE))
        self.lets_go = False

    async def release_on_a_loop(self, queue: Queue, how: str) -> None:
        if how == "awaited":
            await queue.tasks()
        else:
            queue.tasks.release()

    @rule(key=st.sampled_from("ab"), how=st.sampled_from(["here", "thread", "handler"]))
    def forget(self, key: str, how: str) -> None:
        def forget(*_: object) -> None:
            BackgroundTasks(runtime=self.runtime).forget(key)

        if how == "thread":
            thread = threading.Thread(target=forget)
            thread.start()
            thread.join()
        elif how == "handler":
            before = signal.signal(signal.SIGUSR1, forget)
            signal.raise_signal(signal.SIGUSR1)
            signal.signal(signal.SIGUSR1, before)
        else:
            forget()

    @rule(name=st.integers(0, 9).map(str))
    def open_a_gate(self, name: str) -> None:
        if name in self.jobs:
            self.jobs[name].gate.open()

    def open_gates(self) -> None:
        for job in list(self.jobs.values()):
            job.gate.open()

    @rule(seconds=st.sampled_from([SOON + 1, LATER + 1]))
    def pass_time(self, seconds: float) -> None:
        self.jumps.append(seconds)
        self.timer.pass_time(time.monotonic() + seconds)

    # Drains.

    def run_drain(self, timeout: float) -> None:
        self.abandoned += self.runtime.drain(timeout)

    @rule()
    def drain_in_no_time(self) -> None:
        self.run_drain(0.0)

    @precondition(lambda self: self.draining is None)
    @rule(timeout=st.sampled_from([0.005, 2 * PATIENCE]))
    def begin_drain(self, timeout: float) -> None:
        """What follows happens while it waits."""
        self.draining = threading.Thread(target=self.run_drain, args=(timeout,))
        self.draining.start()

    @rule()
    def drain_in_time(self) -> None:
        self.drain_and_wait()

    def drain_and_wait(self) -> None:
        """Let everything end that can."""
        if self.transaction is not None:
            self.end_transaction(True)
        drains = [threading.Thread(target=self.run_drain, args=(PATIENCE,))]
        drains[0].start()
        if self.draining is not None:
            drains.append(self.draining)
            self.draining = None
        end = time.monotonic() + PATIENCE
        while any(drain.is_alive() for drain in drains):
            self.open_gates()
            if len(self.timer):
                self.jumps.append(2 * PATIENCE)
                self.timer.pass_time(end + PATIENCE)
            for drain in drains:
                drain.join(0.001)
        assert time.monotonic() < end, "the drain had to give up"

    # What must hold.

    def teardown(self) -> None:
        if not hasattr(self, "runtime"):
            return
        self.lets_go = True
        for queue in self.open:
            self.end(queue)
        self.drain_and_wait()
        self.drain_and_wait()  # what a task has added after the first had given up on it
        self.wait_for_what_was_abandoned()
        stop_loop(self.runtime)
        assert self.faults == []
        for job in self.jobs.values():
            self.check(job)
        abandoned = [name for name, job in self.jobs.items() if job.outcomes == ["abandoned"]]
        assert sorted(self.abandoned) == sorted(abandoned)
        assert {n: gauge.peak for n, gauge in self.gauges.items() if gauge.peak > LIMITS[n]} == {}
        self.check_books()

    def wait_for_what_was_abandoned(self) -> None:
        """It runs on, and its driver gives back what it holds when it has ended."""
        end = time.monotonic() + PATIENCE
        in_flight = self.runtime.in_flight
        while any(job.is_running for job in self.jobs.values()) or in_flight.in_use:
            self.open_gates()
            assert time.monotonic() < end, (self.books(), self.jobs)
            time.sleep(0.001)

    def check(self, job: Job) -> None:
        what = (job.name, job.spec, job.told)
        assert len(job.outcomes) == 1, what
        assert not job.is_running, what
        (outcome,) = job.outcomes
        assert job.attempts == list(range(1, len(job.attempts) + 1)), what
        assert len(job.attempts) <= 1 + job.spec.options["retries"], what
        kinds = [kind for kind, _ in job.told]
        # What was told in another thread: its end by a drain, and by the timer that it is overdue.
        beside = {"started", "retrying", "overdue"} if outcome == "abandoned" else {"overdue"}
        while kinds[-1] in beside:
            kinds.pop()
        assert kinds[-1] == outcome, what
        if outcome in {"succeeded", "failed"}:
            assert job.attempts, what
            if not job.spec.is_limited:
                assert (outcome, len(job.attempts)) == expected(job.spec), what
        else:
            self.check_unrun(job, outcome)
        if job.attempts:
            self.check_run(job)

    def check_unrun(self, job: Job, outcome: str) -> None:
        what = (job.name, job.spec, job.told)
        options = job.spec.options
        if outcome == "replaced":
            assert "key" in options, what
        elif outcome == "discarded":
            is_failed = job.name in self.failed | self.rolled_back
            if is_failed:
                is_failed = options.get("run_on", "success") != "always"
            assert is_failed or "key" in options or options.get("run_on") == "error", what
            assert "key" in options or not job.attempts, what

    def check_run(self, job: Job) -> None:
        what = (job.name, job.spec, job.told)
        options = job.spec.options
        run_on = options.get("run_on", "success")
        if run_on == "error":
            assert self.queue_of[job.name].failures or job.name in self.rolled_back, what
        delay = options.get("delay", 0.0)
        assert delay <= max(self.jumps[self.born[job.name] :], default=0.0), what
        seen = [each for each in job.exceptions if each is not None]
        assert all(each in self.queue_of[job.name].failures for each in seen), what

    def check_books(self) -> None:
        ends = Counter(job.outcomes[0] for job in self.jobs.values())
        assert self.books() == ([], 0, 0, 0, 0, 0, 0, ends), self.jobs

    def books(self) -> tuple[object, ...]:
        """What is to be nothing when all tasks have ended, and how many ended how."""
        runtime = self.runtime
        now = _stats_of(runtime)
        return (
            runtime.in_flight.live(),
            runtime.in_flight.in_use,
            now.pending,
            now.running,
            places(runtime),
            len(runtime.scheduler.turns._keys),
            len(self.timer),
            Counter({kind: number for kind, number in now.totals.items() if number}),
        )


NOTHING = Spec("sync", (), {"timeout": None, "retries": 0})


class LaneMachine(OptionsMachine):
    """The same, where all sync tasks are known to hold the interpreter's lock."""

    app: Application

    @initialize(on_full=st.sampled_from(["run", "reject"]))
    def begin(self, on_full: str) -> None:
        super().begin(on_full)
        self.app = Application(self.runtime)
        job = Job("", NOTHING, self.gauges, self.faults, self.act)
        for func in (job._call, job._returns):
            self.app.blame(func)

    def teardown(self) -> None:
        super().teardown()
        if hasattr(self, "app"):
            self.app.steps.end()
            assert not self.app.turns._lane._members
            assert not self.app.turns._lane.has_line


@pytest.fixture(autouse=True, scope="module")
def _quick_and_quiet() -> Iterator[None]:
    logging.getLogger("bgadapters").setLevel(logging.CRITICAL)
    with mock.patch.object(drainer, "_CANCEL_GRACE", 0.01):
        yield
    logging.getLogger("bgadapters").setLevel(logging.NOTSET)


OptionsMachine.TestCase.settings = LaneMachine.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestOptionsMachine = OptionsMachine.TestCase
TestLaneMachine = LaneMachine.TestCase
