"""``key``: of the released tasks that wait with the same key one counts; the others are told."""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextvars import Context, copy_context
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Batch, LiveTasks, Precondition, Runtime, Task, TaskEvent
from bgadapters.core.control.keys import Keyed, Keys, Loss
from bgadapters.core.model.options import OnDuplicate
from tests.core import ways
from tests.core.test_limits import Held, places, release, wait_until_parked
from tests.core.ways import PATIENCE, Log, MakeRuntime, lines_of, reached

SOON = 0.05
LATER = 1000.0


class Told:
    """What is told of tasks, by name."""

    def __init__(self) -> None:
        self.events: list[TaskEvent] = []

    def __call__(self, event: TaskEvent) -> None:
        self.events.append(event)

    def ends(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for event in list(self.events):
            if event.kind not in {"added", "started"}:
                found.setdefault(event.task.name, []).append(event.kind)
        return found


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def runtime(make_runtime: MakeRuntime, told: Told) -> Iterator[Runtime]:
    """One worker, so that what is released while that is busy waits."""
    runtime = make_runtime(max_workers=1, concurrency={"slow": 1}, on_event=told)
    yield runtime
    assert runtime.drain(PATIENCE) == []
    assert remembered(runtime) == 0
    assert places(runtime) == 0


def remembered(runtime: Runtime) -> int:
    return len(runtime.scheduler.turns._keys)


@pytest.fixture
def busy(runtime: Runtime) -> Iterator[Held]:
    held = Held()
    release(runtime, held.task, name="busy")
    reached(held.started)
    yield held
    held.go_on.set()


def add(runtime: Runtime, name: str, log: Log, **options: Any) -> None:
    release(runtime, log.append, name, name=name, **options)


@pytest.mark.parametrize(
    ("on_duplicate", "ran"), [("replace", "third"), ("keep", "first")], ids=["replace", "keep"]
)
def test_of_those_that_wait_one_counts(
    runtime: Runtime, busy: Held, told: Told, log: Log, on_duplicate: str, ran: str
) -> None:
    for name in ("first", "second", "third"):
        add(runtime, name, log, key="k", on_duplicate=on_duplicate)
    add(runtime, "other", log, key="other")
    assert runtime.in_flight.in_use == 3  # what has lost holds nothing
    busy.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == [ran, "other"]
    expected = {name: ["replaced"] for name in ("first", "second", "third")}
    expected |= {ran: ["succeeded"], "other": ["succeeded"], "busy": ["succeeded"]}
    assert told.ends() == expected


def test_the_last_one_is_said_at_info(
    runtime: Runtime, busy: Held, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        add(runtime, "first", log, key="k")
        add(runtime, "second", log, key="k")
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        (
            "INFO",
            "1 background task(s) replaced, another task with the key 'k' waits in its place: "
            "first",
        )
    ]


def test_one_that_runs_and_one_that_waits_both_count(
    runtime: Runtime, told: Told, log: Log
) -> None:
    held = Held()
    release(runtime, held.task, name="runs", key="k")
    reached(held.started)
    add(runtime, "waits", log, key="k", on_duplicate="keep")
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert told.ends() == {"runs": ["succeeded"], "waits": ["succeeded"]}


def test_it_takes_effect_with_the_release(runtime: Runtime, busy: Held, told: Told) -> None:
    add(runtime, "released", [], key="k")
    failed, late = BackgroundTasks(runtime=runtime), BackgroundTasks(runtime=runtime)
    failed.options(key="k", name="failed").add_task(print)
    late.options(key="k", name="late").add_task(int)
    failed.close(KeyError())
    assert told.ends() == {"failed": ["discarded"]}
    late.release()
    busy.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert told.ends() == {
        "failed": ["discarded"],
        "released": ["replaced"],
        "late": ["succeeded"],
        "busy": ["succeeded"],
    }


@pytest.mark.parametrize(
    ("on_duplicate", "ran"),
    [("replace", ["b", "a2"]), ("keep", ["a1", "b"])],
    ids=["replace", "keep"],
)
def test_in_one_response(
    runtime: Runtime, run: ways.Run, log: Log, on_duplicate: OnDuplicate, ran: list[str]
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    keyed = queue.options(key="k", on_duplicate=on_duplicate)
    keyed.add_task(log.append, "a1")
    queue.add_task(log.append, "b")
    keyed.add_task(log.append, "a2")
    run(queue)
    assert log == ran


@pytest.mark.parametrize("where", ["first", "middle", "middle, async", "alone"])
def test_the_others_of_the_loser_s_response_run(
    runtime: Runtime, busy: Held, log: Log, where: str
) -> None:
    loser = ways.as_coroutine_function(log.append) if "async" in where else log.append
    where = where.removesuffix(", async")
    with BackgroundTasks(runtime=runtime) as queue:
        if where == "middle":
            queue.add_task(log.append, "before")
        queue.options(key="k").add_task(loser, "loser")
        if where != "alone":
            queue.add_task(log.append, "after")
    add(runtime, "winner", log, key="k")
    busy.go_on.set()
    assert runtime.drain(PATIENCE) == []
    others = {"first": ["after"], "middle": ["before", "after"], "alone": []}[where]
    assert log == [*others, "winner"]


def test_on_loops_and_in_threads(make_runtime: MakeRuntime, told: Told, log: Log) -> None:
    """Async tasks that wait behind another task, on two loops, and a sync one."""
    runtime = make_runtime(on_event=told)
    alog = ways.as_coroutine_function(log.append)
    held = [Held(), Held()]

    def in_a_loop(number: int) -> None:
        async def main() -> None:
            queue = BackgroundTasks(runtime=runtime)
            queue.add_task(held[number].atask)
            queue.options(key="k", name=f"loop {number}").add_task(alog, number)
            await queue()

        asyncio.run(main())

    threads = [threading.Thread(target=in_a_loop, args=(number,)) for number in range(2)]
    for number, thread in enumerate(threads):
        thread.start()
        reached(held[number].started)
    for number in range(2):  # the first has lost to the second
        held[number].go_on.set()
        threads[number].join()
    assert (log, told.ends()["loop 0"], told.ends()["loop 1"]) == ([1], ["replaced"], ["succeeded"])
    runtime.drain(PATIENCE)


# With a delay.


def later(runtime: Runtime, name: str, log: Log, seconds: float = LATER, **options: Any) -> None:
    add(runtime, name, log, delay=seconds, **options)


def test_a_debounce(make_runtime: MakeRuntime, told: Told, log: Log) -> None:
    runtime = make_runtime(on_event=told, max_pending=10)
    for number in range(50):
        later(runtime, str(number), log, key="k")
        assert len(runtime.in_flight.live()) == 1  # what has lost is gone
    later(runtime, "last", log, SOON, key="k")
    assert runtime.drain(PATIENCE) == []
    assert log == ["last"]
    assert Counter(kinds[0] for kinds in told.ends().values()) == {"replaced": 50, "succeeded": 1}
    assert len(runtime.scheduler.later._timer._heap) < 50
    assert remembered(runtime) == 0


def test_the_delay_of_the_one_that_counts_is_kept(runtime: Runtime, log: Log) -> None:
    later(runtime, "first", log, SOON, key="k")
    later(runtime, "second", log, LATER, key="k", on_duplicate="keep")
    assert runtime.drain(PATIENCE) == []
    assert log == ["first"]


def test_one_without_a_delay_replaces_one_with(runtime: Runtime, log: Log) -> None:
    later(runtime, "later", log, key="k")
    add(runtime, "now", log, key="k")
    assert runtime.drain(PATIENCE) == []
    assert log == ["now"]


def test_a_drain_names_one_that_is_not_due(runtime: Runtime, told: Told, log: Log) -> None:
    later(runtime, "later", log, key="k")
    assert runtime.drain(0) == ["later"]
    add(runtime, "next", log, key="k", on_duplicate="keep")  # it has no ghost to give way to
    assert runtime.drain(PATIENCE) == []
    assert told.ends() == {"later": ["abandoned"], "next": ["succeeded"]}


@pytest.mark.parametrize("on_duplicate", ["replace", "keep"])
def test_the_delay_is_an_option(
    runtime: Runtime, told: Told, log: Log, on_duplicate: OnDuplicate
) -> None:
    for name, delay in (("first", SOON), ("second", 2 * SOON)):
        add(runtime, name, log, key="k", on_duplicate=on_duplicate, delay=delay)
    assert runtime.drain(PATIENCE) == []
    ran, lost = ("first", "second") if on_duplicate == "keep" else ("second", "first")
    assert (log, told.ends()) == ([ran], {ran: ["succeeded"], lost: ["replaced"]})


# With another attempt.


class Failing:
    """A task that fails in its first attempt."""

    def __init__(self) -> None:
        self.attempts = 0
        self.held = Held()

    def task(self) -> None:
        self.attempts += 1
        self.held.started.set()
        if self.attempts == 1:
            reached(self.held.go_on)
            raise OSError


def wait_for_retry(told: Told) -> None:
    end = time.monotonic() + PATIENCE
    while not any(event.kind == "retrying" for event in list(told.events)):
        assert time.monotonic() < end
        time.sleep(0.001)


def retried(runtime: Runtime, seconds: float = LATER, **options: Any) -> Failing:
    failing = Failing()

    def backoff(_: int, __: Exception) -> float:
        return seconds

    release(runtime, failing.task, name="fails", retries=1, backoff=backoff, **options)
    reached(failing.held.started)
    return failing


def test_one_that_waits_for_its_next_attempt_can_be_replaced(
    runtime: Runtime, told: Told, log: Log
) -> None:
    failing = retried(runtime, key="k")
    failing.held.go_on.set()
    wait_for_retry(told)
    add(runtime, "next", log, key="k")
    assert runtime.drain(PATIENCE) == []
    assert (log, failing.attempts) == (["next"], 1)
    assert told.ends() == {"fails": ["retrying", "replaced"], "next": ["succeeded"]}


def test_one_that_waits_for_its_next_attempt_goes_before_one_that_keeps_it(
    runtime: Runtime, told: Told, log: Log
) -> None:
    failing = retried(runtime, SOON, key="k")
    failing.held.go_on.set()
    wait_for_retry(told)
    add(runtime, "next", log, key="k", on_duplicate="keep")
    assert runtime.drain(PATIENCE) == []
    assert (log, failing.attempts) == ([], 2)
    assert told.ends() == {"fails": ["retrying", "succeeded"], "next": ["replaced"]}


@pytest.mark.parametrize("seconds", [0, SOON])
@pytest.mark.parametrize("on_duplicate", ["replace", "keep"])
def test_of_one_that_has_failed_and_one_released_since_that_decides(
    runtime: Runtime, told: Told, log: Log, on_duplicate: OnDuplicate, seconds: float
) -> None:
    failing = retried(runtime, seconds, key="k")
    add(runtime, "since", log, key="k", on_duplicate=on_duplicate)
    failing.held.go_on.set()
    wait_for_retry(told)
    assert runtime.drain(PATIENCE) == []
    replaced = on_duplicate == "replace"
    assert (log, failing.attempts) == (["since"] if replaced else [], 1 if replaced else 2)
    assert told.ends() == {
        "fails": ["retrying", "replaced" if replaced else "succeeded"],
        "since": ["succeeded" if replaced else "replaced"],
    }


def test_a_place_is_given_back_while_the_next_attempt_is_waited_for(
    runtime: Runtime, told: Told, log: Log
) -> None:
    failing = retried(runtime, key="k", concurrency="slow")
    failing.held.go_on.set()
    wait_for_retry(told)
    done = threading.Event()
    release(runtime, done.set, concurrency="slow")
    reached(done)
    assert BackgroundTasks(runtime=runtime).forget("k") is True
    assert told.ends()["fails"] == ["retrying", "discarded"]
    assert failing.attempts == 1


# With a limit.


def test_one_that_waits_for_a_place_can_be_replaced(
    make_runtime: MakeRuntime, told: Told, log: Log
) -> None:
    runtime = make_runtime(concurrency={"slow": 1}, on_event=told)
    held, behind = Held(), threading.Event()
    release(runtime, held.task, concurrency="slow")
    reached(held.started)
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(key="k", concurrency="slow", name="first").add_task(log.append, "first")
        queue.add_task(behind.set)
    wait_until_parked(runtime, 1)
    add(runtime, "second", log, key="k", concurrency="slow")
    reached(behind)  # what waited behind it waits for nothing now
    wait_until_parked(runtime, 1)
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert (log, told.ends()["first"]) == (["second"], ["replaced"])
    assert places(runtime) == 0


def test_one_behind_what_waits_for_a_place_can_be_replaced(
    make_runtime: MakeRuntime, told: Told, log: Log
) -> None:
    runtime = make_runtime(concurrency={"slow": 1}, on_event=told)
    held = Held()
    release(runtime, held.task, concurrency="slow")
    reached(held.started)
    with BackgroundTasks(runtime=runtime) as queue:
        queue.options(concurrency="slow").add_task(log.append, "limited")
        queue.options(key="k", name="first").add_task(log.append, "first")
    wait_until_parked(runtime, 1)
    add(runtime, "second", log, key="k")
    assert told.ends()["first"] == ["replaced"]
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert sorted(log) == ["limited", "second"]


# forget()


def test_forget_discards_the_one_that_waits(
    runtime: Runtime, busy: Held, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(runtime, "waits", [], key="k")
    with caplog.at_level(logging.INFO):
        assert queue.forget("k") is True
    assert queue.forget("k") is False
    assert queue.forget("of nobody") is False
    assert told.ends() == {"waits": ["discarded"]}
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == (
        "INFO",
        "1 background task(s) discarded, forget('k') was called: waits",
    )
    assert runtime.in_flight.in_use == 1


def test_forget_leaves_one_that_runs_and_those_of_open_queues(runtime: Runtime, told: Told) -> None:
    held = Held()
    release(runtime, held.task, name="runs", key="k")
    reached(held.started)
    queue = BackgroundTasks(runtime=runtime)
    queue.options(key="k", name="open").add_task(int)
    assert queue.forget("k") is False
    held.go_on.set()
    queue.release()
    assert runtime.drain(PATIENCE) == []
    assert told.ends() == {"runs": ["succeeded"], "open": ["succeeded"]}


def test_forget_one_with_a_delay(runtime: Runtime, log: Log, told: Told) -> None:
    later(runtime, "later", log, key="k")
    assert BackgroundTasks(runtime=runtime).forget("k") is True
    assert runtime.in_flight.live() == []
    assert told.ends() == {"later": ["discarded"]}


@pytest.mark.parametrize("key", [None, 1, ""])
def test_forget_accepts_a_key(queue: BackgroundTasks, key: Any) -> None:
    with pytest.raises(TypeError, match="accepts a string that is not empty"):
        queue.forget(key)


def test_a_key_is_one_of_its_application(make_runtime: MakeRuntime, log: Log) -> None:
    one, other = (make_runtime() for _ in range(2))
    for runtime in (one, other):
        later(runtime, "later", log, SOON, key="k")
    assert BackgroundTasks(runtime=one).forget("k") is True
    assert other.drain(PATIENCE) == []
    assert log == ["later"]


# What a queue's own tasks add, and what waits for a commit.


def test_a_task_that_a_task_has_added_counts_at_once(
    runtime: Runtime, told: Told, log: Log
) -> None:
    held, added = Held(), threading.Event()
    queue = BackgroundTasks(runtime=runtime)

    def adds() -> None:
        queue.options(key="k", name="own").add_task(log.append, "own")
        added.set()
        reached(held.go_on)

    queue.add_task(adds)
    queue.release()
    reached(added)
    add(runtime, "other", log, key="k")
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert (log, told.ends()["own"]) == (["other"], ["replaced"])


@pytest.mark.parametrize("commits", [True, False])
def test_one_that_waits_for_a_commit_replaces_when_that_has_come(
    runtime: Runtime, busy: Held, told: Told, log: Log, commits: bool
) -> None:
    add(runtime, "first", log, key="k")
    commit, queue = Precondition(), BackgroundTasks(runtime=runtime)
    task_of(queue, log, "second", commit)
    queue.release()
    assert told.ends() == {}
    commit.resolve(commits)
    busy.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert log == ["second" if commits else "first"]
    lost = {"first": ["replaced"]} if commits else {"second": ["discarded"]}
    assert told.ends() | lost == told.ends()


def task_of(queue: BackgroundTasks, log: Log, name: str, commit: Precondition) -> None:
    """Add a task with a key that waits for a commit, as a framework's hook has it."""
    queue.runtime.preconditions = lambda _: [commit]
    queue.options(key="k", name=name).add_task(log.append, name)
    queue.runtime.preconditions = None


@pytest.mark.parametrize("commits", [True, False, None])
def test_what_a_task_has_added_in_a_transaction(
    make_runtime: MakeRuntime, told: Told, log: Log, commits: bool | None
) -> None:
    """None: it is not decided when its turn has come, and so goes on by itself."""
    runtime = make_runtime(on_event=told)
    held, added, commit = Held(), threading.Event(), Precondition()
    later(runtime, "first", log, key="k")
    queue = BackgroundTasks(runtime=runtime)

    def adds() -> None:
        task_of(queue, log, "own", commit)
        added.set()
        reached(held.go_on)

    queue.add_task(adds)
    queue.release()
    reached(added)
    assert "first" not in told.ends()
    if commits is not None:
        commit.resolve(commits)
    held.go_on.set()
    while queue.batch in runtime.in_flight.live():
        time.sleep(0.001)
    if commits is None:
        assert "first" not in told.ends()
        commit.resolve(True)
    if commits is False:
        assert BackgroundTasks(runtime=runtime).forget("k") is True
    assert runtime.drain(PATIENCE) == []
    assert log == ([] if commits is False else ["own"])
    assert told.ends()["first"] == (["discarded"] if commits is False else ["replaced"])
    assert remembered(runtime) == 0


def test_a_connection_that_lasts(runtime: Runtime, told: Told, log: Log) -> None:
    held, queue = Held(), LiveTasks(runtime=runtime)
    queue.add_task(held.task)
    reached(held.started)
    for name in ("first", "second"):
        queue.options(key="k", name=name).add_task(log.append, name)
    assert told.ends() == {"first": ["replaced"]}
    held.go_on.set()
    queue.end()
    assert runtime.drain(PATIENCE) == []
    assert log == ["second"]


def test_one_that_loses_as_it_is_added_is_told_of_in_order(runtime: Runtime, told: Told) -> None:
    held, queue = Held(), LiveTasks(runtime=runtime)
    queue.add_task(held.task)
    reached(held.started)
    for name in ("first", "second"):
        queue.options(key="k", name=name, on_duplicate="keep").add_task(int)
    kinds = [event.kind for event in told.events if event.name == "second"]
    assert kinds == ["added", "replaced"]
    held.go_on.set()
    queue.end()


def test_one_that_has_started_before_it_was_noted_does_not_wait(
    runtime: Runtime, told: Told, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever adds it may be slower than its driver: it must not stand in another one's way."""
    admission, queue, held = runtime.admission, BackgroundTasks(runtime=runtime), Held()
    admit = admission.admit

    def admit_slowly(batch: Batch, task: Task, preconditions: Any) -> None:
        admit(batch, task, preconditions)
        if task.name == "swift":
            reached(held.started)

    def swift() -> None:
        queue.add_task(held.task)  # so that the queue runs on

    monkeypatch.setattr(admission, "admit", admit_slowly)
    adder = threading.Thread()

    def first() -> None:
        nonlocal adder
        add_it = queue.options(key="k", name="swift").add_task
        adder = threading.Thread(target=copy_context().run, args=(add_it, swift))
        adder.start()
        while len(queue) == 0:
            time.sleep(0.001)

    queue.options(name="first").add_task(first)
    queue.release()
    reached(held.started)
    adder.join(PATIENCE)
    add(runtime, "next", log, key="k", on_duplicate="keep")
    held.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert (log, told.ends()["next"]) == (["next"], ["succeeded"])


def test_one_that_starts_just_now_does_not_wait() -> None:
    """Its driver has claimed it, and not yet taken it from its batch."""
    keys, batch = Keys(), Batch()
    task = Task(print, (), Context())
    keyed = Keyed("k", task, batch, True)
    batch.add(task)
    assert keys.enter(keyed) == []
    assert keys.claim(keyed) is True
    assert keys.enter(keyed) == []
    assert keys.forget("k") is None
    keys.started(batch)
    assert len(keys) == 0


# Ends of another kind.


def test_its_driver_may_look_at_it_just_when_it_has_lost(
    runtime: Runtime, busy: Held, told: Told, log: Log
) -> None:
    """Who has decided it has not yet taken it from its batch: the driver does, and tells."""
    queue = BackgroundTasks(runtime=runtime)
    queue.options(key="k", name="loser").add_task(log.append, "loser")
    queue.add_task(log.append, "behind")
    (task, _) = queue.batch.waiting
    queue.release()
    other = Keyed("k", Task(print, (), task.context), Batch(), True)
    other.batch.add(other.task)
    turns = runtime.scheduler.turns
    (loser,) = turns._keys.enter(other)
    busy.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert (log, told.ends()["loser"]) == (["behind"], ["replaced"])
    assert turns._withdraw(loser, Loss.REPLACED) is False  # it comes too late
    assert told.ends()["loser"] == ["replaced"]
    turns._keys.leave(other)


def test_one_that_was_forgotten_is_not_told_as_replaced(
    runtime: Runtime, busy: Held, told: Told
) -> None:
    add(runtime, "forgotten", [], key="k")
    assert runtime.scheduler.turns._keys.forget("k") is not None
    busy.go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert told.ends()["forgotten"] == ["discarded"]


def test_a_key_is_another_one_s_by_now() -> None:
    keys, batch = Keys(), Batch()
    task, other = (Task(print, (), Context()) for _ in range(2))
    batch.add(task)
    assert keys.enter(Keyed("k", task, batch, True)) == []
    assert keys.claim(Keyed("k", other, batch, True)) is False
    assert keys.claim(Keyed("k", task, batch, True)) is True


def test_what_a_broken_driver_leaves_makes_way(
    runtime: Runtime, busy: Held, told: Told, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(runtime, "broken", log, key="k")
    broken = OSError("no memory")

    def fail(*_: object) -> None:
        raise broken

    with monkeypatch.context() as patched:
        patched.setattr(runtime.scheduler.turns, "take", fail)
        busy.go_on.set()
        runtime.drain(PATIENCE)
    add(runtime, "next", log, key="k", on_duplicate="keep")
    assert runtime.drain(PATIENCE) == []
    assert told.ends() == {
        "busy": ["succeeded"],
        "broken": ["discarded"],
        "next": ["succeeded"],
    }


def test_a_forked_child_starts_empty() -> None:
    script = """
    import os
    from bgadapters import BackgroundTasks, drain

    def add(name, seconds, **options):
        queue = BackgroundTasks()
        queue.options(key="k", delay=seconds, **options).add_task(print, name)
        queue.release()
        return queue

    queue = add("parent", 0.2)
    child = os.fork()
    if not child:
        assert queue.forget("k") is False
        add("child", 0, on_duplicate="keep")
        assert drain(10) == []
        raise SystemExit
    os.waitpid(child, 0)
    """
    flags = ("-W", "ignore:This process:DeprecationWarning")  # Python 3.12: it has threads
    assert lines_of(script, flags=flags) == ["child", "parent"]


class Argument:
    """Something that a task is given."""


def test_what_has_lost_is_not_kept(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime()

    def add_later() -> weakref.ref[Argument]:
        argument = Argument()
        with BackgroundTasks(runtime=runtime) as queue:
            queue.options(key="k", delay=LATER).add_task(print, argument)
        return weakref.ref(argument)

    loser = add_later()
    add(runtime, "winner", log, key="k")
    runtime.drain(PATIENCE)
    assert loser() is None


def test_many_threads(make_runtime: MakeRuntime, told: Told) -> None:
    runtime = make_runtime(max_workers=3, on_event=told, concurrency={"slow": 2})
    chance = random.Random(1)
    choices: list[dict[str, Any]] = [
        {
            "key": chance.choice("abc"),
            "on_duplicate": chance.choice(["keep", "replace"]),
            "concurrency": chance.choice([None, "slow"]),
        }
        for _ in range(600)
    ]

    async def atask() -> None:
        await asyncio.sleep(0)

    def work(start: int) -> None:
        for number in range(start, 600, 4):
            options = {k: v for k, v in choices[number].items() if v is not None}
            if number % 5 == 0:
                options["delay"] = 0.001
            with BackgroundTasks(runtime=runtime) as queue:
                adder = queue.options(name=str(number), **options)
                adder.add_task(atask) if number % 2 else adder.add_task(int)
                queue.options(name=f"{number} too").add_task(int)
            if number % 7 == 0:
                queue.forget("a")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runtime.drain(PATIENCE) == []
    ends = told.ends()
    assert {len(kinds) for kinds in ends.values()} == {1}
    assert len(ends) == 1200
    assert {ends[f"{number} too"][0] for number in range(600)} == {"succeeded"}
    assert (remembered(runtime), places(runtime)) == (0, 0)
