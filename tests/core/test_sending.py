"""Tasks for an engine are sent instead of called, and run where they arrive."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bgadapters import (
    BackgroundTasks,
    EngineUnavailableError,
    NotPortableError,
    SettingsError,
    TaskEvent,
    TaskInfo,
    add_task,
    current_task,
    task_options,
)
from bgadapters.adapters import Runtime, add_carrier, remove_carrier, was_told
from bgadapters.core.outbox.outbox import outbox_of
from bgadapters.core.sending import health
from bgadapters.core.sending.engines import engines_of
from bgadapters.engines import Engine, Message, RefusedError, RetryLater, SentByCommit
from bgadapters.testing import capture_tasks
from tests.core import durable_tasks
from tests.core.durable_tasks import happened
from tests.core.memory_engine import MemoryEngine, Own
from tests.core.memory_store import MemoryStore
from tests.core.ways import PATIENCE, MakeRuntime, Run, reached
from tests.our_log import OurLog

HERE = ["tests.core.durable_tasks", "tests.core.test_sending"]
pytestmark = pytest.mark.usefixtures("nothing_has_happened")

request_id: ContextVar[str] = ContextVar("request_id", default="none")


async def note_later(what: Any) -> None:
    await asyncio.sleep(0)
    happened.append(what)


def add_one_more() -> None:
    add_task(durable_tasks.note, "its own")
    happened.append("first")


def fail_at_first() -> None:
    task = current_task()
    assert task is not None
    happened.append(task.attempt)
    if task.attempt < 3:
        raise ConnectionError(task.attempt)


class NoReprError(Exception):
    def __repr__(self) -> str:
        raise LookupError("what it was made with is not there any more")


def fail_with_what_has_no_repr() -> None:
    raise NoReprError


@task_options(engine="heavy")
def marked() -> None:
    happened.append("marked")


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine(patience=0)


@pytest.fixture
def other() -> MemoryEngine:
    return MemoryEngine()


@pytest.fixture
def events() -> list[TaskEvent]:
    return []


@pytest.fixture
def runtime(
    make_runtime: MakeRuntime, engine: MemoryEngine, other: MemoryEngine, events: list[TaskEvent]
) -> Runtime:
    return make_runtime(
        engines={"heavy": engine, "other": other}, task_modules=HERE, on_event=events.append
    )


def kinds(events: list[TaskEvent]) -> list[str]:
    return [event.kind for event in events]


def sent(queue: BackgroundTasks) -> None:
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []


def add(queue: BackgroundTasks, func: Callable[..., Any], *args: Any, **options: Any) -> None:
    given: Any = {"engine": "heavy", **options}
    queue.options(**given).add_task(func, *args)


# On the way.


@pytest.mark.parametrize("func", [durable_tasks.note, note_later])
def test_a_task_is_sent_after_the_response_and_runs_where_it_arrives(
    runtime: Runtime, engine: MemoryEngine, events: list[TaskEvent], run: Run, func: Any
) -> None:
    queue = BackgroundTasks(runtime=runtime, path="/a", method="POST")
    add(queue, func, "ran")
    assert engine.messages == []
    run(queue)
    (message,) = engine.messages
    assert (happened, kinds(events)) == ([], ["added", "sent"])
    assert (events[1].outcome, events[1].reason) == ("sent", "it was sent to 'heavy'")
    assert (message.id, message.name, message.due) == (
        events[0].task_id,
        f"{func.__module__}.{func.__qualname__}",
        None,
    )
    said = json.loads(message.payload)
    assert (said["f"], said["a"], said["path"], said["method"]) == (
        f"{func.__module__}:{func.__qualname__}",
        ["ran"],
        "/a",
        "POST",
    )
    engine.run_all()
    assert happened == ["ran"]
    assert kinds(events[2:]) == ["started", "succeeded"]
    assert {event.task_id for event in events} == {message.id}
    assert {event.queue_id for event in events} == {events[0].queue_id}
    assert events[3].path == "/a"
    assert runtime.events.totals.counts()["sent"] == 1


def test_tasks_for_engines_go_before_the_others(
    runtime: Runtime, engine: MemoryEngine, events: list[TaskEvent]
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(durable_tasks.note, "local")
    add(queue, durable_tasks.note, 1)
    queue.add_task(durable_tasks.note, "local too")
    add(queue, durable_tasks.note, 2)
    queue.flush()
    add(queue, durable_tasks.note, 3)
    sent(queue)
    assert happened == ["local", "local too"]
    assert [message.call.args for message in engine.messages] == [(1,), (2,), (3,)]
    order = [event.kind for event in events if event.kind in ("sent", "started")]
    assert order == ["sent", "sent", "started", "started", "sent"]


def test_the_decorator_and_the_defaults_say_where(
    make_runtime: MakeRuntime, engine: MemoryEngine
) -> None:
    runtime = make_runtime(
        engines={"heavy": engine}, task_modules=HERE, defaults={"engine": "heavy"}
    )
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(durable_tasks.note, 1)
    queue.options(engine="local").add_task(durable_tasks.note, 2)
    sent(queue)
    assert (len(engine.messages), happened) == (1, [2])


def test_a_function_knows_its_engine(runtime: Runtime, engine: MemoryEngine) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(marked)
    sent(queue)
    engine.run_all()  # and it does not send it once more
    assert (happened, engine.messages) == (["marked"], [])


def test_options_that_the_engine_has_are_for_it(runtime: Runtime, engine: MemoryEngine) -> None:
    queue = BackgroundTasks(runtime=runtime)
    then = datetime.now(UTC) + timedelta(hours=1)
    add(queue, durable_tasks.note, 1, delay=60)
    add(queue, durable_tasks.note, 2, run_after=then, retries=4, backoff=7.0)
    before = time.time()
    sent(queue)
    first, second = engine.messages
    assert first.due is not None
    assert before + 60 <= first.due <= time.time() + 60
    assert second.due == pytest.approx(then.timestamp())
    assert (first.options.delay, second.options.retries) == (60, 4)
    assert json.loads(second.payload)["options"] == {"retries": 4, "backoff": 7.0}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"timeout": 3}, r"with engine='heavy' and timeout=3: MemoryEngine has no timeout. It has ret"),
    ({"priority": 3}, "has no priority"),
    ({"key": "k"}, "has no key"),
    ({"engine": "nowhere"}, "the setting 'engines' names 'heavy', 'other'; 'local' and 'process'"),
    ({"engine": "local", "send": "before_response"}, "and no engine=... is given"),
    ({"engine": "other", "session": 1}, "accepts a session"),
    ({"name": "refused"}, "this engine has no tasks of that name"),
    ({"retry_on": (OSError,)}, r"options\(engine='heavy', retry_on=.*Write it at the function"),
    ({"engine": ""}, "accepts 'local', 'process' or a name"),
    ({"send": "later"}, "accepts 'after_response', 'before_response' or 'in_transaction'"),
    ({"durable": True, "send": "before_response"}, "with durable=True a task is kept before"),
]


@pytest.mark.parametrize(("options", "why"), REFUSED)
def test_what_the_engine_lacks_is_refused_at_the_call(
    make_runtime: MakeRuntime, engine: MemoryEngine, other: MemoryEngine, options: Any, why: str
) -> None:
    runtime = make_runtime(
        engines={"heavy": engine, "other": other}, task_modules=HERE, store=MemoryStore()
    )
    queue = BackgroundTasks(runtime=runtime)
    with pytest.raises(TypeError, match=why):
        add(queue, durable_tasks.note, 1, **options)
    assert len(queue) == 0
    queue.release()


def test_an_engine_with_no_options_says_so(make_runtime: MakeRuntime) -> None:
    class Bare(MemoryEngine):
        abilities = frozenset()
        acknowledges = False

    runtime = make_runtime(engines={"heavy": Bare()}, task_modules=HERE, store=MemoryStore())
    queue = BackgroundTasks(runtime=runtime)
    with pytest.raises(TypeError, match="It has none of the options"):
        add(queue, durable_tasks.note, 1, delay=1)
    with pytest.raises(TypeError, match="does not tell whether a task would survive"):
        add(queue, durable_tasks.note, 1, send="before_response")
    with pytest.raises(TypeError, match="durable=True: Bare does not tell whether"):
        add(queue, durable_tasks.note, 1, durable=True)
    with pytest.raises(TypeError, match="takes no part in transactions"):
        add(queue, durable_tasks.note, 1, send="in_transaction")
    queue.release()


def test_what_a_worker_may_not_call_is_refused(make_runtime: MakeRuntime) -> None:
    queue = BackgroundTasks(runtime=make_runtime(engines={"heavy": MemoryEngine()}))
    with pytest.raises(NotPortableError, match=r"a message is only data, .*'task_modules'"):
        add(queue, durable_tasks.note, 1)
    with pytest.raises(NotPortableError, match="argument 1 is"):
        add(queue, durable_tasks.marked, object())
    queue.release()


def test_an_object_of_the_engine_is_sent_as_itself(runtime: Runtime, engine: MemoryEngine) -> None:
    queue = BackgroundTasks(runtime=runtime, path="/a")
    own = Own("theirs")
    add(queue, own)
    sent(queue)
    (message,) = engine.messages
    assert (message.call.func, message.payload) == (own, "")
    assert message.headers["bgadapters-path"] == "/a"


def test_what_the_engine_refuses_fails(
    runtime: Runtime, engine: MemoryEngine, events: list[TaskEvent]
) -> None:
    engine.refuses = ValueError("too large")
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    sent(queue)
    assert kinds(events) == ["added", "failed"]
    engine.refuses = None
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 2)
    sent(queue)
    assert kinds(events)[2:] == ["added", "sent"]


def test_a_failed_response_sends_nothing(runtime: Runtime, engine: MemoryEngine) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    queue.discard(ValueError())
    sent(queue)
    assert engine.messages == []


# Where it arrives.


def test_what_was_captured_and_carried_is_there(make_runtime: MakeRuntime) -> None:
    @contextmanager
    def _around(captured: Any) -> Iterator[None]:
        happened.append(("entered", captured))
        yield

    class Captures:
        def capture(self, task: TaskInfo) -> str:
            return request_id.get()

        def around(self, task: TaskInfo, captured: Any) -> Any:
            return _around(captured)

    engine = MemoryEngine()
    runtime = make_runtime(
        engines={"heavy": engine}, task_modules=HERE, task_middleware=[Captures()]
    )
    add_carrier("test", lambda: "a trace", lambda carried: happened.append(("restored", carried)))
    try:
        request_id.set("r1")
        queue = BackgroundTasks(runtime=runtime)
        add(queue, durable_tasks.note, 1)
        add(queue, Own("theirs"))
        request_id.set("r2")
        sent(queue)
        assert happened == []  # sending enters no middleware
        assert json.loads(engine.messages[1].headers["bgadapters-captured"])[0][1] == "r1"
        engine.run(engine.messages[0].payload)
        assert happened == [("restored", "a trace"), ("entered", "r1"), 1]
    finally:
        remove_carrier("test")
    remove_carrier("test")
    engine.run(engine.messages[0].payload)  # nobody is there who could restore it
    assert happened[3:] == [("entered", "r1"), 1]


def test_each_attempt_is_the_engines(
    runtime: Runtime, engine: MemoryEngine, events: list[TaskEvent]
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, fail_at_first, retries=2, backoff=0.5)
    sent(queue)
    (message,) = engine.messages
    with pytest.raises(RetryLater) as later:
        engine.run(message.payload, 1)
    assert 0 <= later.value.seconds <= 0.5
    assert isinstance(later.value.cause, ConnectionError)
    with pytest.raises(RetryLater):
        engine.run(message.payload, 2)
    engine.run(message.payload, 3)
    assert happened == [1, 2, 3]
    assert kinds(events)[2:] == [*("started", "retrying") * 2, "started", "succeeded"]
    assert runtime.drain(0) == []


def test_what_was_raised_need_have_no_repr_to_be_tried_again(
    runtime: Runtime, engine: MemoryEngine
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, fail_with_what_has_no_repr, retries=1)
    sent(queue)
    with pytest.raises(RetryLater, match="NoReprError") as later:
        engine.run(engine.messages[0].payload, 1)
    assert isinstance(later.value.cause, NoReprError)


def test_a_task_that_fails_there_fails_for_the_engine_too(
    runtime: Runtime, engine: MemoryEngine, events: list[TaskEvent], errors: Callable[[], list[str]]
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    durable_tasks.failures.append(ValueError("ill"))
    add(queue, durable_tasks.fail)
    sent(queue)
    with pytest.raises(ValueError, match="ill") as raised:
        engine.run_all()
    assert was_told(raised.value)
    assert not was_told(ValueError("ill"))
    assert kinds(events)[2:] == ["started", "failed"]
    assert len(errors()) == 1


def test_what_it_adds_there_runs_there(runtime: Runtime, engine: MemoryEngine) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, add_one_more)
    sent(queue)
    engine.run_all()
    assert happened == ["first", "its own"]


FORGED: list[tuple[str, str, str]] = [
    ('{"f": "os:system", "a": ["true"]}', "os:system", "may not be called here"),
    ('{"f": "tests.core.durable_tasks:gone"}', "gone", "there is no"),
    ('{"f": "tests.core.durable_tasks:note", "a": [1]}', "note", "'id'"),
    ("{", "of which nothing can be read", "Expecting"),
    ("[]", "of which nothing can be read", "list indices"),
]


@pytest.mark.parametrize(("payload", "name", "why"), FORGED)
def test_what_is_refused_there_is_told_and_no_success(
    runtime: Runtime,
    engine: MemoryEngine,
    events: list[TaskEvent],
    errors: Callable[[], list[str]],
    payload: str,
    name: str,
    why: str,
) -> None:
    with pytest.raises(RefusedError, match=why):
        engine.run(payload)
    assert (kinds(events), happened) == (["failed"], [])
    assert name in errors()[0]


def test_a_worker_without_an_application_has_the_default_one(engine: MemoryEngine) -> None:
    payload = json.dumps(
        {"f": "tests.core.durable_tasks:marked", "a": [1], "id": "1", "queue": "2", "added": 1.0}
    )
    engine.run(payload)
    assert happened == [1]


# An engine that is down.


def test_it_is_tried_again_for_a_while(
    make_runtime: MakeRuntime, events: list[TaskEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL", 0.05)
    engine = MemoryEngine(patience=60)
    engine.is_down = True
    runtime = make_runtime(engines={"heavy": engine}, task_modules=HERE, on_event=events.append)
    queue = BackgroundTasks(runtime=runtime)
    failed = threading.Event()

    def heard(event: TaskEvent) -> None:
        events.append(event)
        if event.kind == "retrying":
            failed.set()

    runtime.events._on_event = heard
    add(queue, durable_tasks.note, 1)
    queue.release()
    reached(failed)
    engine.is_down = False
    assert runtime.drain(PATIENCE) == []  # it waits for that
    assert kinds(events)[-1] == "sent"
    assert "retrying" in kinds(events)
    assert "engine_down" not in kinds(events)


def test_in_the_end_it_fails_and_is_named_without_its_arguments(
    runtime: Runtime,
    engine: MemoryEngine,
    events: list[TaskEvent],
    errors: Callable[[], list[str]],
) -> None:
    engine.is_down = True
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, "secret", retries=3)
    sent(queue)
    assert kinds(events) == ["added", "engine_down", "failed"]
    assert isinstance(events[-1].exception, EngineUnavailableError)
    (line,) = errors()
    assert "tests.core.durable_tasks.note" in line
    assert events[0].task_id in str(events[-1].exception)
    assert "secret" not in line + str(events[-1].exception)


def test_however_many_tasks_the_log_says_once_that_it_is_down(
    make_runtime: MakeRuntime, our_log: OurLog
) -> None:
    engine = MemoryEngine(patience=0.2)
    engine.is_down = True
    runtime = make_runtime(engines={"heavy": engine}, task_modules=HERE)
    queue = BackgroundTasks(runtime=runtime)
    for number in range(30):
        add(queue, durable_tasks.note, number)
    sent(queue)
    tried, down = our_log.warnings
    assert "is tried again" in tried
    assert "Engine 'heavy' is down" in down
    assert tried.endswith("no broker")
    assert "no broker; found by" in down
    failures = [each for each in our_log.records if each.levelno == logging.ERROR]
    assert len(failures) == 30
    assert len({each.getMessage() for each in failures}) == 30  # each names its task
    assert [each for each in failures if each.exc_info] == []
    assert all(each.getMessage().endswith("no broker") for each in failures)


def test_others_take_its_tasks_and_that_is_told_once(
    make_runtime: MakeRuntime,
    other: MemoryEngine,
    events: list[TaskEvent],
    warned: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(health, "INTERVAL", 0.0)
    engine = MemoryEngine(failover=["other", "local"], patience=0)
    engine.is_down = True
    runtime = make_runtime(
        engines={"heavy": engine, "other": other}, task_modules=HERE, on_event=events.append
    )
    for number in range(2):
        queue = BackgroundTasks(runtime=runtime)
        add(queue, durable_tasks.note, number)
        sent(queue)
    assert [message.call.args for message in other.messages] == [(0,), (1,)]
    assert kinds(events) == ["added", "engine_down", "sent", "added", "sent"]
    (line,) = warned()
    assert "Engine 'heavy' is down, and its tasks go to 'other', 'local'" in line
    other.is_down = True
    for func in (durable_tasks.note, note_later):
        queue = BackgroundTasks(runtime=runtime)
        add(queue, func, "here")
        sent(queue)
    assert happened == ["here", "here"]
    assert kinds(events)[5:] == ["added", "started", "succeeded"] * 2
    engine.is_down = False
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 3)
    sent(queue)
    assert kinds(events)[11:] == ["added", "engine_back", "sent"]


def test_in_this_process_it_has_all_of_its_attempts(
    make_runtime: MakeRuntime, events: list[TaskEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL", 0.0)
    engine = MemoryEngine(failover=["local"], patience=0.3)
    engine.is_down = True
    durable_tasks.failures += [ValueError(), ValueError(), ValueError()]
    runtime = make_runtime(engines={"heavy": engine}, task_modules=HERE, on_event=events.append)
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.fail, retries=2, backoff=0)
    sent(queue)
    assert kinds(events).count("started") == 3
    assert kinds(events)[-1] == "failed"


def test_in_this_process_it_waits_for_its_time(
    make_runtime: MakeRuntime, events: list[TaskEvent]
) -> None:
    engine = MemoryEngine(failover=["local"], patience=0)
    engine.is_down = True
    runtime = make_runtime(engines={"heavy": engine}, task_modules=HERE, on_event=events.append)
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, delay=0.2)
    started = time.time()
    sent(queue)
    assert happened == [1]
    assert time.time() - started >= 0.2
    assert kinds(events) == ["added", "engine_down", "retrying", "started", "succeeded"]


def test_of_many_tasks_one_tries(make_runtime: MakeRuntime, events: list[TaskEvent]) -> None:
    """An engine that does not answer keeps one worker, and not all of them."""
    engine = MemoryEngine(patience=60)
    engine.is_down = True
    runtime = make_runtime(
        engines={"heavy": engine}, task_modules=HERE, on_event=events.append, drain_timeout=60
    )
    first = BackgroundTasks(runtime=runtime)
    add(first, durable_tasks.note, 0)
    failed = threading.Event()

    def heard(event: TaskEvent) -> None:
        if event.kind == "retrying":
            failed.set()

    runtime.events._on_event = heard
    first.release()
    reached(failed)
    engine.holds = threading.Event()
    tries = engine.tries
    for number in range(20):
        queue = BackgroundTasks(runtime=runtime)
        add(queue, durable_tasks.note, number)
        queue.release()
    local = threading.Event()
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(local.set)
    queue.release()
    reached(local)
    assert engine.tries - tries <= 1
    engine.is_down = False
    engine.holds.set()
    assert runtime.drain(PATIENCE) == []
    assert len(engine.messages) == 21


# Before the response.


def confirmed(queue: BackgroundTasks) -> None:
    queue.confirm()


def aconfirmed(queue: BackgroundTasks) -> None:
    asyncio.run(queue.aconfirm())


@pytest.mark.parametrize("confirm", [confirmed, aconfirmed])
def test_it_is_sent_before_the_response(
    runtime: Runtime, engine: MemoryEngine, events: list[TaskEvent], confirm: Any
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.add_task(durable_tasks.note, "local")
    add(queue, durable_tasks.note, 1, send="before_response", delay=60)
    confirm(queue)
    (message,) = engine.messages
    assert message.due is not None
    assert kinds(events) == ["added", "added", "sent"]
    assert len(queue) == 1
    sent(queue)
    assert (happened, len(engine.messages)) == (["local"], 1)


@pytest.mark.parametrize("confirm", [confirmed, aconfirmed])
def test_without_an_engine_there_is_no_such_response(
    make_runtime: MakeRuntime, events: list[TaskEvent], confirm: Any
) -> None:
    """This process is none: what it has would be lost with it."""
    engine, other = MemoryEngine(failover=["other", "local"]), MemoryEngine()
    runtime = make_runtime(
        engines={"heavy": engine, "other": other}, task_modules=HERE, on_event=events.append
    )
    engine.is_down = True
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, send="before_response")
    confirm(queue)
    assert (len(other.messages), kinds(events)) == (1, ["added", "engine_down", "sent"])
    other.is_down = True
    add(queue, durable_tasks.note, 2, send="before_response")
    with pytest.raises(EngineUnavailableError, match="for 'other': no broker"):
        confirm(queue)
    queue.discard(EngineUnavailableError())
    queue.release()
    engine.is_down = other.is_down = False
    runtime.settings.engines
    assert kinds(events)[3:] == ["added", "discarded"]


def test_an_engine_that_is_back_is_told_of_before_the_response(
    make_runtime: MakeRuntime, events: list[TaskEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "INTERVAL", 0.0)
    engine = MemoryEngine(failover=["other"])
    runtime = make_runtime(
        engines={"heavy": engine, "other": MemoryEngine()},
        task_modules=HERE,
        on_event=events.append,
    )
    queue = BackgroundTasks(runtime=runtime)
    engine.is_down = True
    for number in range(2):
        add(queue, durable_tasks.note, number, send="before_response")
        queue.confirm()
    engine.is_down = False
    add(queue, durable_tasks.note, 3, send="before_response")
    queue.confirm()
    queue.release()
    assert kinds(events) == [
        *("added", "engine_down", "sent", "added", "sent", "added", "engine_back", "sent")
    ]


def test_where_no_response_waits_it_is_sent_in_its_turn(
    runtime: Runtime, engine: MemoryEngine
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, send="before_response")
    sent(queue)
    assert len(engine.messages) == 1


# In a transaction.


def test_in_a_transaction_it_is_sent_at_once(
    runtime: Runtime, engine: MemoryEngine, events: list[TaskEvent]
) -> None:
    class Session:
        def execute(self) -> None: ...

    session = Session()
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, send="in_transaction", session=session)
    ((message, of),) = engine.in_transaction
    assert (message.call.args, of) == ((1,), session)
    assert (kinds(events), len(queue)) == (["added", "sent"], 0)
    sent(queue)
    assert engine.messages == []


class SendsWithCommit(MemoryEngine):
    """What is added waits for a commit that comes later."""

    def __init__(self) -> None:
        super().__init__()
        self.commits: list[SentByCommit] = []

    def send_in_transaction(self, message: Message, session: Any) -> SentByCommit:
        self.commits.append(SentByCommit())
        return self.commits[-1]


@pytest.mark.parametrize(
    ("is_committed", "left_out", "ends"),
    [(True, None, "sent"), (True, "its key is taken", "replaced"), (False, None, "discarded")],
)
@pytest.mark.parametrize("response", ["succeeds", "fails", "comes after the commit"])
def test_in_a_transaction_that_cannot_be_joined_yet_it_is_sent_by_the_commit(
    make_runtime: MakeRuntime,
    events: list[TaskEvent],
    our_log: OurLog,
    is_committed: bool,
    left_out: str | None,
    ends: str,
    response: str,
) -> None:
    engine = SendsWithCommit()
    runtime = make_runtime(engines={"heavy": engine}, task_modules=HERE, on_event=events.append)
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, send="in_transaction", run_on="error")
    (commit,) = engine.commits
    if response == "succeeds":
        queue.release()
    elif response == "fails":
        queue.close(LookupError("the view has failed"))
    assert kinds(events) == ["added"]
    commit.left_out = left_out
    commit.resolve(is_committed)
    sent(queue)
    assert kinds(events) == ["added", ends]
    assert (happened, engine.messages) == ([], [])
    assert (
        events[-1].reason
        == {
            "sent": "it was sent to 'heavy'",
            "replaced": "its key is taken",
            "discarded": "their transaction was rolled back",
        }[ends]
    )


# Durable, it is an outbox.


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def test_a_row_is_there_until_it_was_sent(make_runtime: MakeRuntime, store: MemoryStore) -> None:
    engine = MemoryEngine()
    runtime = make_runtime(engines={"heavy": engine}, task_modules=HERE, store=store)
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, durable=True)
    queue.confirm()
    (row,) = store.database.rows()
    assert engine.messages == []
    sent(queue)
    assert ([message.id for message in engine.messages], store.database.ids()) == ([row.id], [])


def test_it_stays_in_the_store_while_its_engine_is_down(
    make_runtime: MakeRuntime,
    store: MemoryStore,
    events: list[TaskEvent],
    warned: Callable[[], list[str]],
) -> None:
    engine = MemoryEngine(patience=0)
    engine.is_down = True
    runtime = make_runtime(
        engines={"heavy": engine}, task_modules=HERE, store=store, on_event=events.append
    )
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, durable=True)
    queue.confirm()
    sent(queue)
    (row,) = store.database.rows()
    assert row.due is not None
    assert (row.attempt, row.due > time.time()) == (2, True)
    assert kinds(events) == ["added", "engine_down", "abandoned"]
    assert "it stays in the store, to be sent later" in warned()[-1]
    # Whoever finds it sends it.
    engine.is_down = False
    store.database.kill(store)
    second = MemoryEngine()
    heard: list[TaskEvent] = []
    later = make_runtime(
        engines={"heavy": second},
        task_modules=HERE,
        store=MemoryStore(store.database),
        on_event=heard.append,
    )
    store.database.kept[row.id].row = row._replace(due=None)  # as if it were time
    outbox_of(later)._recovery.recover()
    assert later.drain(PATIENCE) == []
    assert ([message.id for message in second.messages], store.database.ids()) == ([row.id], [])
    assert kinds(heard) == ["recovered", "sent"]


def test_without_a_row_it_fails(make_runtime: MakeRuntime, events: list[TaskEvent]) -> None:
    store = MemoryStore()
    engine = MemoryEngine(patience=0)
    engine.is_down = True

    def on_call(name: str) -> None:
        if name == "write":
            raise OSError("no disk")

    store.on_call = on_call
    runtime = make_runtime(
        engines={"heavy": engine}, task_modules=HERE, store=store, on_event=events.append
    )
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1, durable=True)
    sent(queue)
    assert kinds(events) == ["added", "engine_down", "failed"]


# In tests, and set-up.


def test_in_a_test_nothing_is_sent(runtime: Runtime, engine: MemoryEngine) -> None:
    with capture_tasks() as tasks:
        queue = BackgroundTasks(runtime=runtime)
        add(queue, durable_tasks.note, 1)
        with pytest.raises(NotPortableError):
            add(queue, durable_tasks.note, object())
        queue.release()
        assert [task.args for task in tasks.pending] == [(1,)]
        tasks.run_pending()
    assert (happened, engine.messages) == ([1], [])


WRONG: list[tuple[Any, str]] = [
    ([], "a mapping of names to engines"),
    ({"": MemoryEngine()}, "names other than"),
    ({"local": MemoryEngine()}, "names other than"),
    ({1: MemoryEngine()}, "names other than"),
    ({"a": 3}, "an engine, or a dictionary"),
    ({"a": {"OPTIONS": {}}}, "a dictionary with 'BACKEND' and 'OPTIONS'"),
    ({"a": {"BACKEND": "nowhere.Engine"}}, "cannot import 'nowhere.Engine'"),
    (
        {"a": {"BACKEND": "tests.core.memory_engine.MemoryEngine", "OPTIONS": {"patience": "x"}}},
        "patience= accepts a number of seconds",
    ),
    (
        {"a": {"BACKEND": "tests.core.memory_engine.MemoryEngine", "OPTIONS": {"failover": "b"}}},
        "failover= accepts a list of names",
    ),
]


@pytest.mark.parametrize(("engines", "why"), WRONG)
def test_a_wrong_setting_is_refused(make_runtime: MakeRuntime, engines: Any, why: str) -> None:
    from bgadapters.adapters import parse_settings

    with pytest.raises(SettingsError, match=why):
        parse_settings({"engines": engines})


def test_an_engine_may_be_named_by_its_path() -> None:
    from bgadapters.adapters import parse_settings

    path = "tests.core.memory_engine.MemoryEngine"
    settings = parse_settings({"engines": {"a": {"BACKEND": path, "OPTIONS": {"patience": 3}}}})
    assert settings.engines["a"].patience == 3


@pytest.mark.parametrize("name", ["nowhere", "heavy"])
def test_an_engine_fails_over_to_what_is_there(make_runtime: MakeRuntime, name: str) -> None:
    engine = MemoryEngine(failover=[name])
    queue = BackgroundTasks(runtime=make_runtime(engines={"heavy": engine}, task_modules=HERE))
    with pytest.raises(SettingsError, match=f"failover names '{name}'; it accepts 'local' and"):
        add(queue, durable_tasks.note, 1)
    queue.release()


def test_engines_end_with_the_process_and_begin_anew_in_a_child(
    runtime: Runtime, engine: MemoryEngine
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    sent(queue)
    runtime.reset_after_fork()
    runtime.close()
    assert engine.is_closed


def test_an_engine_may_leave_out_most_of_it(make_runtime: MakeRuntime) -> None:
    class Bare(Engine):
        def send(self, message: Message) -> None:
            happened.append(message.call.args)

    bare = Bare()
    runtime = make_runtime(engines={"heavy": bare}, task_modules=HERE)
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    add(queue, durable_tasks.note, 2, send="before_response")
    asyncio.run(queue.aconfirm())
    sent(queue)
    assert happened == [(2,), (1,)]
    runtime.reset_after_fork()
    runtime.close()
    with pytest.raises(NotImplementedError):
        bare.send_in_transaction(None, None)  # type: ignore[arg-type]  # it has none


def test_nobody_need_hear_of_what_runs_here_after_all(make_runtime: MakeRuntime) -> None:
    engine = MemoryEngine(failover=["local"], patience=0)
    engine.is_down = True
    queue = BackgroundTasks(runtime=make_runtime(engines={"heavy": engine}, task_modules=HERE))
    add(queue, durable_tasks.note, 1)
    sent(queue)
    assert happened == [1]


def test_one_that_is_down_is_not_waited_for_where_others_are(
    make_runtime: MakeRuntime, other: MemoryEngine, events: list[TaskEvent]
) -> None:
    """Its patience is for the task that finds it."""
    engine = MemoryEngine(failover=["other"], patience=60)
    runtime = make_runtime(
        engines={"heavy": engine, "other": other}, task_modules=HERE, on_event=events.append
    )
    known = engines_of(runtime).named("heavy").health
    known.failed("no broker")
    known.went_down()
    queue = BackgroundTasks(runtime=runtime)
    add(queue, durable_tasks.note, 1)
    sent(queue)
    assert (kinds(events), len(other.messages)) == (["added", "sent"], 1)


def test_while_one_tries_the_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long that takes: an engine that does not answer keeps one worker."""
    monkeypatch.setattr(health, "INTERVAL", 0.0)
    known = health.Health()
    known.failed("it does not answer")
    assert [known.may_try(), known.may_try(), known.may_try()] == [True, False, False]
    known.failed("it does not answer")
    assert known.may_try()
    known.came_up()
    assert [known.may_try(), known.may_try()] == [True, True]


class Poor(MemoryEngine):
    """It has no options, and none of the others' objects; nor does it say that it has a task."""

    abilities = frozenset()
    acknowledges = False

    def owns(self, func: Any) -> bool:
        return False


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"delay": 1}, "with engine='poor' and delay=1: Poor has no delay"),
        ({"send": "before_response"}, "with engine='poor' .*does not tell whether a task would"),
    ],
)
def test_those_that_it_fails_over_to_have_to_do_as_well(
    make_runtime: MakeRuntime, options: Any, why: str
) -> None:
    engines = {"heavy": MemoryEngine(failover=["poor"]), "poor": Poor()}
    queue = BackgroundTasks(runtime=make_runtime(engines=engines, task_modules=HERE))
    with pytest.raises(TypeError, match=why):
        add(queue, durable_tasks.note, 1, **options)
    queue.release()


def test_an_object_of_one_engine_goes_to_no_other(
    make_runtime: MakeRuntime, events: list[TaskEvent]
) -> None:
    """That one could not read it."""
    engine, poor = MemoryEngine(failover=["poor", "other"], patience=0), Poor()
    engine.is_down = True
    other = MemoryEngine()
    runtime = make_runtime(
        engines={"heavy": engine, "poor": poor, "other": other}, on_event=events.append
    )
    queue = BackgroundTasks(runtime=runtime)
    add(queue, Own("theirs"))
    sent(queue)
    assert (poor.messages, len(other.messages)) == ([], 1)
    assert kinds(events) == ["added", "engine_down", "sent"]
