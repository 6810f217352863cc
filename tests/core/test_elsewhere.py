"""Tasks whose call is made by an engine that this process waits for."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import Context, ContextVar
from typing import Any

import pytest

from bgadapters import (
    BackgroundTasks,
    NotPortableError,
    SettingsError,
    TaskEvent,
    TaskInfo,
    TaskMiddleware,
    current_task,
    stats,
    task_options,
)
from bgadapters.adapters import (
    Batch,
    Call,
    FrameworkHooks,
    Runtime,
    Task,
    add_middleware,
    remove_middleware,
    runtimes,
)
from bgadapters.core.control.limits import Limits
from bgadapters.core.model.options import DEFAULT_OPTIONS
from bgadapters.core.sending.alone import run_alone
from bgadapters.core.sending.engines import engines_of
from bgadapters.engines import Message, Run, RunningEngine
from bgadapters.engines.process import ProcessEngine
from bgadapters.testing import run_tasks
from tests.core import durable_tasks
from tests.core.durable_tasks import happened
from tests.core.memory_engine import MemoryEngine
from tests.core.memory_store import MemoryStore
from tests.core.ways import PATIENCE, MakeRuntime, reached
from tests.core.ways import Run as RunQueue

pytestmark = pytest.mark.usefixtures("nothing_has_happened")


class InThread(RunningEngine):
    """Calls functions in threads of this process, as if that was another one."""

    def __init__(self, places: int = 1, begins: float = 0.0) -> None:
        super().__init__()
        self.places, self.begins = places, begins
        self.hooks = FrameworkHooks()
        self.now = self.peak = 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Run]:
        await asyncio.sleep(self.begins)
        self.now += 1
        self.peak = max(self.peak, self.now)
        try:
            yield self.run_in_thread
        finally:
            self.now -= 1

    async def run_in_thread(self, payload: str, attempt: int) -> None:
        await asyncio.to_thread(run_alone, self.hooks, payload, attempt)


def plain(what: Any) -> None:
    """It is in no list of what may be called."""
    happened.append(what)


three = threading.Barrier(3)


def meet() -> None:
    """Three have to run at one time for one of them to end."""
    happened.append(three.wait(PATIENCE))


async def aplain(what: Any) -> None:
    await asyncio.sleep(0)
    happened.append(what)


def lazy(what: Any) -> Any:
    return aplain(what)


async def lazier(what: Any) -> Any:
    return aplain(what)


def fail_twice() -> None:
    task = current_task()
    assert task is not None
    happened.append(task.attempt)
    if task.attempt < 3:
        raise ConnectionError(task.attempt)


@task_options(name="the marked one", retries=3)
def marked() -> None:
    task = current_task()
    assert task is not None
    happened.append((task.name, task.options.retries))


def tell_of_itself(*args: Any, **kwargs: Any) -> None:
    task = current_task()
    assert task is not None
    happened.append((task.id, task.queue_id, task.name, task.path, task.method, task.args))


@pytest.fixture
def engine() -> InThread:
    return InThread()


@pytest.fixture
def events() -> list[TaskEvent]:
    return []


@pytest.fixture
def runtime(make_runtime: MakeRuntime, engine: InThread, events: list[TaskEvent]) -> Runtime:
    return make_runtime(
        engines={"here": engine}, on_event=events.append, concurrency={"one": 1, "two": 2}
    )


def release(runtime: Runtime, func: Callable[..., Any], *args: Any, **options: Any) -> None:
    options.setdefault("engine", "here")
    with BackgroundTasks(runtime=runtime, path="/a", method="POST") as queue:
        queue.options(**options).add_task(func, *args)


def wait_until_parked(runtime: Runtime, count: int, where: Limits | None = None) -> None:
    """Wait for what has no event of its own: that a loop has put a batch aside."""
    lines: Any = (where or runtime.scheduler.turns._engines)._lines
    end = time.monotonic() + PATIENCE
    while sum(map(len, lines.values())) < count:
        assert time.monotonic() < end, lines
        time.sleep(0.001)


@pytest.mark.parametrize("func", [plain, aplain, lazy, lazier])
def test_any_function_that_can_be_imported_is_called(
    runtime: Runtime, run: RunQueue, func: Any
) -> None:
    queue = BackgroundTasks(runtime=runtime)
    queue.options(engine="here").add_task(func, "ran")
    run(queue)
    assert happened == ["ran"]


def test_its_events_are_told_here(runtime: Runtime, events: list[TaskEvent]) -> None:
    release(runtime, plain, 1)
    assert runtime.drain(PATIENCE) == []
    assert [(each.kind, each.name) for each in events] == [
        ("added", f"{__name__}.plain"),
        ("started", f"{__name__}.plain"),
        ("succeeded", f"{__name__}.plain"),
    ]


def test_what_it_is_given_survives_json(runtime: Runtime) -> None:
    queue = BackgroundTasks(runtime=runtime)
    with pytest.raises(NotPortableError, match="engine='here' accepts arguments"):
        queue.options(engine="here").add_task(plain, object())
    with pytest.raises(NotPortableError, match="can be imported by name"):
        queue.options(engine="here").add_task(lambda: None)
    queue.release()


def test_options_need_not_be_json(runtime: Runtime) -> None:
    release(runtime, fail_twice, retries=2, backoff=lambda *_: 0.0, retry_on=(ConnectionError,))
    assert runtime.drain(PATIENCE) == []
    assert happened == [1, 2, 3]


def test_the_task_knows_itself_there(runtime: Runtime, events: list[TaskEvent]) -> None:
    release(runtime, tell_of_itself, 1, 2, name="a name")
    assert runtime.drain(PATIENCE) == []
    release(runtime, marked)
    assert runtime.drain(PATIENCE) == []
    event = events[0]
    assert happened == [
        (event.task_id, event.queue_id, "a name", "/a", "POST", (1, 2)),
        ("the marked one", 3),
    ]


def test_at_most_so_many_have_a_place(make_runtime: MakeRuntime) -> None:
    engine = InThread(places=3)
    runtime = make_runtime(engines={"here": engine})
    for _ in range(12):
        release(runtime, meet)
    assert runtime.drain(PATIENCE) == []
    assert (len(happened), engine.peak) == (12, 3)


def test_what_waits_for_a_place_does_not_run_and_priorities_count(
    runtime: Runtime, events: list[TaskEvent]
) -> None:
    release(runtime, durable_tasks.wait, "first")
    reached(durable_tasks.began)
    for number, priority in enumerate([0, 5, -5]):
        release(runtime, plain, priority, priority=priority)
        wait_until_parked(runtime, number + 1)
    numbers = dict(zip(runtimes(), stats(), strict=True))[runtime]
    assert (numbers.running, numbers.pending) == (1, 3)
    assert [each.kind for each in events].count("started") == 1
    durable_tasks.may_go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert happened == ["first", 5, 0, -5]


def test_a_limit_counts_beside_the_places(make_runtime: MakeRuntime) -> None:
    engine = InThread(places=2)
    runtime = make_runtime(engines={"here": engine}, concurrency={"one": 1})
    for number in range(6):
        release(runtime, plain, number, concurrency="one")
    assert runtime.drain(PATIENCE) == []
    assert (happened, engine.peak) == (list(range(6)), 1)


def test_who_waits_for_a_place_keeps_that_of_its_limit(runtime: Runtime) -> None:
    """Else another one would take it, and wait for the place: each would wait for the other."""
    turns = runtime.scheduler.turns
    release(runtime, durable_tasks.wait, "first")
    reached(durable_tasks.began)
    release(runtime, plain, "second", concurrency="one")
    wait_until_parked(runtime, 1)
    release(runtime, plain, "third", concurrency="one")
    wait_until_parked(runtime, 1, turns._limits)
    durable_tasks.may_go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert (happened, turns._limits._name_of) == (["first", "second", "third"], {})


def test_a_place_is_granted_for_one_task(runtime: Runtime) -> None:
    """Else the next task of its batch would skip its limit, if another key takes the first away."""
    engines = Limits({"here": 1})
    first, second = (Task(plain, (), Context()) for _ in range(2))
    one, other = Batch(), Batch()
    for batch in (one, other):
        batch.add(first)
    nothing = lambda: None  # noqa: E731
    assert engines.take(one, first, "here", nothing, nothing)
    assert not engines.is_granted(one, first)
    assert not engines.take(other, first, "here", nothing, nothing)
    assert not engines.is_granted(other, first)
    assert engines.give_back(one) == (nothing,)
    assert engines.is_granted(other, first)
    assert not engines.is_granted(other, second)
    assert not engines.is_granted(other, None)


def test_a_drain_gives_up_on_what_waits_for_a_place(runtime: Runtime) -> None:
    engines, other = runtime.scheduler.turns._engines, BackgroundTasks(runtime=runtime).batch
    task = Task(plain, (), Context())
    release(runtime, plain, "before")
    assert runtime.drain(PATIENCE) == []
    assert engines.take(other, task, "here", runtime.drain, runtime.drain)
    release(runtime, plain, "waits")
    wait_until_parked(runtime, 1)
    assert runtime.drain(0.0) == [f"{__name__}.plain"]
    assert (engines.give_back(other), happened) == ((), ["before"])


def test_the_time_until_it_has_a_place_is_none_of_its_own(
    make_runtime: MakeRuntime, events: list[TaskEvent]
) -> None:
    runtime = make_runtime(engines={"here": InThread(begins=0.3)}, on_event=events.append)
    release(runtime, plain, "ran", timeout=0.25)
    assert runtime.drain(PATIENCE) == []
    assert [each.kind for each in events] == ["added", "started", "succeeded"]


def test_a_durable_one_is_kept_until_it_has_run(make_runtime: MakeRuntime) -> None:
    store = MemoryStore()
    runtime = make_runtime(
        engines={"here": InThread()}, store=store, task_modules=["tests.core.durable_tasks"]
    )
    release(runtime, durable_tasks.wait, "ran", durable=True)
    reached(durable_tasks.began)
    assert len(store.database.ids()) == 1
    durable_tasks.may_go_on.set()
    assert runtime.drain(PATIENCE) == []
    assert (happened, store.database.ids()) == (["ran"], [])


def test_in_a_test_it_is_a_plain_one(runtime: Runtime, engine: InThread) -> None:
    with run_tasks():
        release(runtime, plain, "ran")
        assert happened == ["ran"]
    assert engine.peak == 0


@pytest.mark.parametrize("send", ["before_response", "in_transaction"])
def test_it_is_not_sent(runtime: Runtime, send: Any) -> None:
    queue = BackgroundTasks(runtime=runtime)
    with pytest.raises(TypeError, match="InThread"):
        queue.options(engine="here", send=send).add_task(plain, 1)
    queue.release()
    with pytest.raises(NotImplementedError):
        InThread().send(Message("", "", "", DEFAULT_OPTIONS, None, Call(plain, (), {}), {}))


def test_no_engine_fails_over_to_one(make_runtime: MakeRuntime) -> None:
    engines = {"here": InThread(), "heavy": MemoryEngine(failover=["here"])}
    runtime = make_runtime(engines=engines)
    with pytest.raises(SettingsError, match="failover names 'here'"):
        engines_of(runtime)


def test_the_engine_of_processes_may_be_given(make_runtime: MakeRuntime) -> None:
    engine = InThread()
    runtime = make_runtime(engines={"process": engine})
    assert engines_of(runtime).named("process").engine is engine
    with pytest.raises(SettingsError, match="a ProcessEngine"):
        make_runtime(engines={"process": MemoryEngine()})


def test_the_engine_of_processes_is_there(runtime: Runtime) -> None:
    engines = engines_of(runtime)
    named = engines.named("process")
    assert isinstance(named.engine, ProcessEngine)
    assert engines.named("process") is named
    assert named.engine.runtime is runtime


# Task middlewares.

tenant: ContextVar[str | None] = ContextVar("tenant", default=None)


class Tenant(TaskMiddleware):
    def capture(self, task: TaskInfo) -> str | None:
        return tenant.get()

    @contextmanager
    def around(self, task: TaskInfo, captured: str | None) -> Iterator[None]:
        token = tenant.set(captured)
        yield
        tenant.reset(token)


class Watching(TaskMiddleware):
    """It captures, and nobody could make one by its name."""

    def __init__(self, log: list[str]) -> None:
        self.log = log

    def capture(self, task: TaskInfo) -> str | None:
        return "something"

    @contextmanager
    def around(self, task: TaskInfo, captured: str | None) -> Iterator[None]:
        self.log.append(f"{captured}, {tenant.get()}")
        yield


@contextmanager
def watch(task: TaskInfo) -> Iterator[None]:
    happened.append("watched here")
    yield


def note_tenant() -> None:
    happened.append(tenant.get())


async def anote_tenant() -> None:
    happened.append(tenant.get())


@pytest.fixture
def of_a_tenant() -> Iterator[None]:
    token = tenant.set("acme")
    yield
    tenant.reset(token)


@pytest.mark.usefixtures("of_a_tenant")
@pytest.mark.parametrize("func", [note_tenant, anote_tenant])
def test_what_a_middleware_has_captured_is_there(make_runtime: MakeRuntime, func: Any) -> None:
    engines = {"here": InThread()}
    log: list[str] = []
    watching = Watching(log)
    add_middleware(watching)  # of the process, and so not of the function
    try:
        runtime = make_runtime(engines=engines, task_middleware=[watch, Tenant])
        release(runtime, func)
    finally:
        remove_middleware(watching)
    assert runtime.drain(PATIENCE) == []
    assert (happened, log) == (["watched here", "acme"], ["something, acme"])


def test_what_has_captured_nothing_is_not_entered_there(make_runtime: MakeRuntime) -> None:
    engine = InThread()
    runtime = make_runtime(engines={"here": engine}, task_middleware=[watch, Tenant])
    release(runtime, note_tenant)
    assert runtime.drain(PATIENCE) == []
    assert happened == ["watched here", None]


class OfMain(Tenant):
    __module__ = "__main__"


class Renamed(Tenant):
    __qualname__ = "Gone"


class Local:
    class Inner(Tenant): ...


def local() -> Any:
    class Unknown(Tenant): ...

    return Unknown


@pytest.mark.usefixtures("of_a_tenant")
@pytest.mark.parametrize(
    ("middleware", "name"),
    [(OfMain, "OfMain"), (local(), "Unknown"), (Renamed, "Gone")],
)
def test_a_middleware_that_is_not_known_there_is_refused(
    make_runtime: MakeRuntime, middleware: Any, name: str
) -> None:
    runtime = make_runtime(engines={"here": InThread()}, task_middleware=[middleware])
    with pytest.raises(NotPortableError, match=f"task middleware .*{name} has captured"):
        release(runtime, note_tenant)


@pytest.mark.usefixtures("of_a_tenant")
def test_one_that_is_within_another_class_is_known(make_runtime: MakeRuntime) -> None:
    runtime = make_runtime(engines={"here": InThread()}, task_middleware=[Local.Inner])
    release(runtime, note_tenant)
    assert runtime.drain(PATIENCE) == []
    assert happened == ["acme"]


# In the other process.

where: ContextVar[str] = ContextVar("where", default="nowhere")


def note_where() -> None:
    happened.append(where.get())


async def anote_where() -> None:
    happened.append(where.get())


def restore(carried: Any) -> None:
    where.set(carried)


@contextmanager
def scope() -> Iterator[None]:
    happened.append("in")
    yield
    happened.append("out")


@pytest.mark.parametrize("func", [note_where, anote_where])
def test_there_it_is_in_the_scope_of_the_framework(func: Any) -> None:
    hooks = FrameworkHooks(scope=scope, restore=restore).completed(False)
    payload = json.dumps(
        {
            "f": f"{__name__}:{func.__name__}",
            "id": "a" * 32,
            "queue": "b" * 32,
            "added": time.time(),
            "carried": {"framework": "there"},
        }
    )
    run_alone(hooks, payload, 1)
    assert happened == ["in", "there", "out"]
