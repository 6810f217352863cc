"""Task middlewares: captured in add_task, entered around each task, named in what they raise."""

from __future__ import annotations

import asyncio
import sys
import threading
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import pytest

from bgadapters import (
    BackgroundTasks,
    QueueFullError,
    SettingsError,
    TaskEvent,
    TaskInfo,
    TaskMiddleware,
    add_task,
)
from bgadapters.adapters import (
    FrameworkHooks,
    LiveTasks,
    Runtime,
    Settings,
    enter,
    leave,
    parse_settings,
)
from bgadapters.testing import capture_tasks, run_tasks
from tests.core.ways import PATIENCE, Flavour, Log, MakeRuntime, Run

current_user = threading.local()
tenant: ContextVar[str] = ContextVar("tenant", default="nobody's")


def user() -> Any:
    return getattr(current_user, "name", None)


class CurrentUser(TaskMiddleware):
    """What a team keeps in a thread-local."""

    def capture(self, task: TaskInfo) -> Any:
        return user()

    @contextmanager
    def around(self, task: TaskInfo, captured: Any) -> Iterator[None]:
        before = user()
        current_user.name = captured
        try:
            yield
        finally:
            current_user.name = before


class Watch(TaskMiddleware):
    """Notes what it sees."""

    def __init__(self, log: Log, name: str = "watch") -> None:
        self._log = log
        self._name = name

    @contextmanager
    def around(self, task: TaskInfo, captured: Any) -> Iterator[None]:
        self._log.append(f"{self._name} in")
        try:
            yield
        except BaseException as exc:
            self._log.append(f"{self._name} saw {exc!r}")
            raise
        self._log.append(f"{self._name} out")


class AsyncWatch(TaskMiddleware):
    """The same, asynchronous where it may be."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def around(self, task: TaskInfo, captured: Any) -> Any:
        return self._async() if task.is_async else nullcontext()

    @asynccontextmanager
    async def _async(self) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        self._log.append("async in")
        try:
            yield
        except BaseException as exc:
            self._log.append(f"async saw {exc!r}")
            raise
        await asyncio.sleep(0)
        self._log.append("async out")


named: Log = []


@contextmanager
def by_path(task: TaskInfo) -> Iterator[None]:
    named.append(f"{task.name} in")
    yield
    named.append("out")


class Plain:
    """An object of no type of ours, without ``capture``."""

    def around(self, task: TaskInfo, captured: Any) -> AbstractContextManager[None]:
        named.append(captured)
        return nullcontext()


class Bare(TaskMiddleware):
    """Neither captures nor enters anything."""


def of(runtime: Runtime) -> BackgroundTasks:
    return BackgroundTasks(runtime=runtime)


# What a task sees.


def test_what_is_captured_in_add_task_is_there_around_the_task(
    make_runtime: MakeRuntime, run: Run, flavour: Flavour, log: Log
) -> None:
    runtime = make_runtime(task_middleware=[CurrentUser()], max_workers=1)

    @flavour
    def task() -> None:
        log.append(user())

    for name in ("ada", None, "bob"):
        current_user.name = name
        queue = of(runtime)
        queue.add_task(task)
        current_user.name = "somebody else"
        run(queue)
    assert log == ["ada", None, "bob"]
    assert user() == "somebody else"


def test_the_first_is_the_outermost_and_all_are_inside_the_frameworks_scope(
    make_runtime: MakeRuntime, run: Run, flavour: Flavour, log: Log
) -> None:
    @contextmanager
    def scope() -> Iterator[None]:
        log.append("scope in")
        yield
        log.append("scope out")

    middlewares = [Watch(log, "first"), Watch(log, "second")]
    runtime = make_runtime(scope=scope, task_middleware=middlewares)
    queue = of(runtime)
    queue.add_task(flavour(log.append), "task")
    run(queue)
    inside = ["scope in", "first in", "second in", "task", "second out", "first out", "scope out"]
    assert log == inside


def test_they_are_entered_in_the_context_of_the_task(
    make_runtime: MakeRuntime, run: Run, flavour: Flavour, log: Log
) -> None:
    @contextmanager
    def around(task: TaskInfo) -> Iterator[None]:
        log.append(tenant.get())
        tenant.set("the middleware's")
        yield
        log.append(tenant.get())

    @flavour
    def task() -> None:
        log.append(tenant.get())
        tenant.set("the task's")

    queue = of(make_runtime(task_middleware=[around]))
    token = tenant.set("the request's")
    queue.add_task(task)
    queue.add_task(task)
    tenant.reset(token)
    run(queue)
    assert log == 2 * ["the request's", "the middleware's", "the task's"]


def test_an_asynchronous_one_is_entered_around_async_tasks(
    make_runtime: MakeRuntime, run: Run, log: Log
) -> None:
    queue = of(make_runtime(task_middleware=[AsyncWatch(log), Watch(log)]))

    async def task() -> None:
        log.append("task")

    async def failing() -> None:
        raise LookupError("no")

    queue.add_task(log.append, "sync")
    queue.add_task(task)
    queue.add_task(failing)
    run(queue)
    assert log == [
        *("watch in", "sync", "watch out"),
        *("async in", "watch in", "task", "watch out", "async out"),
        *("async in", "watch in", "watch saw LookupError('no')", "async saw LookupError('no')"),
    ]


def test_what_a_plain_function_has_returned_is_awaited_in_them_again(
    make_runtime: MakeRuntime, run: Run, log: Log
) -> None:
    @contextmanager
    def around(task: TaskInfo) -> Iterator[None]:
        log.append(f"in, async: {task.is_async}")
        yield
        log.append("out")

    async def inner() -> None:
        await asyncio.sleep(0)
        log.append("inner")

    async def outer() -> Coroutine[Any, Any, None]:
        log.append("outer")
        return inner()

    queue = of(make_runtime(task_middleware=[around]))
    queue.add_task(lambda: outer())  # a function of which nobody can tell that it is async
    queue.add_task(outer)
    run(queue)
    awaited = ["in, async: True", "outer", "inner", "out"]
    assert log == ["in, async: False", "out", *awaited, *awaited]


def test_a_middleware_reads_the_task(make_runtime: MakeRuntime, log: Log) -> None:
    class Reader(TaskMiddleware):
        def capture(self, task: TaskInfo) -> Any:
            log.append((task.name, task.func, task.args, dict(task.kwargs), task.options.always))
            log.append(repr(task))
            with pytest.raises(TypeError):
                task.kwargs["new"] = 1  # type: ignore[index]  # read-only
            with pytest.raises(AttributeError):
                task.args = ()  # type: ignore[misc]  # read-only

    class Mailer:
        """A task object of another framework."""

        func = staticmethod(by_path)

        def enqueue(self, *args: Any, **kwargs: Any) -> None: ...

    queue = of(make_runtime(task_middleware=[Reader()]))
    queue.options(name="mail", always=True).add_task(print, "x", end="")
    queue.add_task(Mailer())  # type: ignore[arg-type]  # no callable
    assert log == [
        ("mail", print, ("x",), {"end": ""}, True),
        "<TaskInfo mail>",
        ("tests.core.test_task_middleware.by_path", Mailer.func, (), {}, False),
        "<TaskInfo tests.core.test_task_middleware.by_path>",
    ]
    queue.release()


def test_tasks_that_tasks_add_capture_what_these_see(
    make_runtime: MakeRuntime, run: Run, flavour: Flavour, log: Log
) -> None:
    @flavour
    def second() -> None:
        log.append(user())

    @flavour
    def first() -> None:
        log.append(user())
        current_user.name = "the first task's"
        add_task(second)

    queue = of(make_runtime(task_middleware=[CurrentUser()]))
    current_user.name = "ada"
    previous = enter(queue)
    queue.add_task(first)
    leave(queue, previous)
    current_user.name = None
    run(queue)
    assert log == ["ada", "the first task's"]


def test_what_was_captured_is_a_copy(make_runtime: MakeRuntime, log: Log) -> None:
    """As it would be where it travels: the view may go on changing what it has."""
    state = {"ids": [1]}

    class State(TaskMiddleware):
        def capture(self, task: TaskInfo) -> Any:
            return state

        def around(self, task: TaskInfo, captured: Any) -> AbstractContextManager[None]:
            log.append(captured)
            return nullcontext()

    runtime = make_runtime(task_middleware=[State(), CurrentUser()])
    with of(runtime) as tasks:
        tasks.add_task(print, end="")
        state["ids"].append(2)
    assert runtime.drain(PATIENCE) == []
    assert log == [{"ids": [1]}]


# Where tasks come from.


def test_the_tasks_of_a_connection_that_lasts_have_them_too(
    make_runtime: MakeRuntime, log: Log
) -> None:
    runtime = make_runtime(task_middleware=[CurrentUser()])
    queue = LiveTasks(runtime=runtime)
    current_user.name = "ada"
    queue.add_task(lambda: log.append(user()))
    current_user.name = "bob"
    queue.options(name="x").add_task(lambda: log.append(user()))
    queue.end()
    assert runtime.drain(PATIENCE) == []
    assert log == ["ada", "bob"]


def test_tests_that_capture_or_run_tasks_enter_them(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(task_middleware=[CurrentUser()])

    async def atask() -> None:
        log.append(user())

    with capture_tasks() as captured:
        current_user.name = "ada"
        with of(runtime) as queue:
            queue.add_task(lambda: log.append(user()))
            queue.add_task(atask)
        current_user.name = "bob"
        assert captured.run_pending() == 2
    with run_tasks(), of(runtime) as queue:
        queue.add_task(lambda: log.append(user()))
        queue.add_task(atask)
    assert log == ["ada", "ada", "bob", "bob"]


def test_a_plain_task_of_another_application_has_none(make_runtime: MakeRuntime) -> None:
    queue = of(make_runtime())
    queue.add_task(int)
    (task,) = queue.batch.left()
    assert queue.runtime.adds_plainly
    assert not hasattr(task, "__dict__")
    assert type(task).__name__ == "Task"
    queue.release()


# What they raise.


def raised_by(events: list[TaskEvent]) -> list[str]:
    """The exceptions of the tasks that failed, with their notes."""
    return [
        "".join(traceback.format_exception_only(event.exception)).strip()
        for event in events
        if event.kind == "failed" and event.exception is not None
    ]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, asyncio.CancelledError])
def test_what_a_middleware_raises_fails_the_task_alone_and_names_it(
    make_runtime: MakeRuntime,
    run: Run,
    flavour: Flavour,
    log: Log,
    errors: Callable[[], list[str]],
    kind: type[BaseException],
) -> None:
    events: list[TaskEvent] = []

    @contextmanager
    def entering(task: TaskInfo) -> Iterator[None]:
        if task.name == "one":
            raise kind("entering")
        yield

    @contextmanager
    def leaving(task: TaskInfo) -> Iterator[None]:
        yield
        if task.name == "two":
            raise kind("leaving")

    def calling(task: TaskInfo) -> AbstractContextManager[None]:
        if task.name == "three":
            raise kind("calling")
        return nullcontext()

    runtime = make_runtime(
        task_middleware=[Watch(log), entering, leaving, calling], on_event=events.append
    )
    queue = of(runtime)
    for name in ("one", "two", "three", "four"):
        queue.options(name=name).add_task(flavour(log.append), name)
    run(queue)
    saw = [f"watch saw {kind(place)!r}" for place in ("entering", "leaving", "calling")]
    assert log == [
        *("watch in", saw[0]),
        *("watch in", "two", saw[1]),
        *("watch in", saw[2]),
        *("watch in", "four", "watch out"),
    ]
    where = f"{__name__}.test_what_a_middleware_raises_fails_the_task_alone_and_names_it.<locals>"
    assert [each.splitlines()[1:] for each in raised_by(events)] == [
        [f"Raised in the task middleware {where}.{place}."]
        for place in ("entering", "leaving", "calling")
    ]
    places = zip(("one", "two", "three"), ("entering", "leaving", "calling"), strict=True)
    assert errors() == [
        f"Background task {name} failed: {kind.__name__}: {place}" for name, place in places
    ]


def test_what_an_asynchronous_one_raises_fails_the_task_and_names_it(
    make_runtime: MakeRuntime, run: Run, log: Log, errors: Callable[[], list[str]]
) -> None:
    events: list[TaskEvent] = []

    @asynccontextmanager
    async def unwell(task: TaskInfo) -> AsyncIterator[None]:
        await asyncio.sleep(0)
        if task.name == "one":
            raise ValueError("entering")
        yield
        await asyncio.sleep(0)
        if task.name == "two":
            raise ValueError("leaving")

    async def task() -> None:
        log.append("task")

    queue = of(make_runtime(task_middleware=[unwell], on_event=events.append))
    for name in ("one", "two", "three"):
        queue.options(name=name).add_task(task)
    run(queue)
    assert log == ["task", "task"]
    where = f"{__name__}.test_what_an_asynchronous_one_raises_fails_the_task_and_names_it.<locals>"
    note = f"Raised in the task middleware {where}.unwell."
    assert raised_by(events) == [f"ValueError: entering\n{note}", f"ValueError: leaving\n{note}"]
    assert len(errors()) == 2


def test_the_exception_of_the_task_is_not_called_the_middlewares(
    make_runtime: MakeRuntime, run: Run, flavour: Flavour, errors: Callable[[], list[str]]
) -> None:
    events: list[TaskEvent] = []

    class Reraising:
        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None:
            exception = sys.exception()
            assert exception is not None
            raise exception

        async def __aenter__(self) -> None: ...

        async def __aexit__(self, *_: object) -> None:
            exception = sys.exception()
            assert exception is not None
            raise exception

    def around(task: TaskInfo) -> Reraising:
        return Reraising()

    @flavour
    def task() -> None:
        raise LookupError("no")

    queue = of(make_runtime(task_middleware=[around], on_event=events.append))
    queue.add_task(task)
    run(queue)
    assert raised_by(events) == ["LookupError: no"]
    assert len(errors()) == 1


def test_a_task_that_has_raised_has_failed_whatever_a_middleware_suppresses(
    make_runtime: MakeRuntime,
    run: Run,
    flavour: Flavour,
    log: Log,
    errors: Callable[[], list[str]],
) -> None:
    @contextmanager
    def suppressing(task: TaskInfo) -> Iterator[None]:
        try:
            yield
        except LookupError:
            log.append("suppressed")

    @asynccontextmanager
    async def asuppressing(task: TaskInfo) -> AsyncIterator[None]:
        with suppressing(task):
            yield

    def around(task: TaskInfo) -> Any:
        return asuppressing(task) if task.is_async else suppressing(task)

    @flavour
    def task() -> None:
        raise LookupError("no")

    queue = of(make_runtime(task_middleware=[Watch(log), around]))
    queue.options(name="task").add_task(task)
    run(queue)
    assert log == ["watch in", "suppressed", "watch saw LookupError('no')"]
    assert errors() == ["Background task task failed: LookupError: no"]


def test_a_middleware_may_raise_another_exception_instead(
    make_runtime: MakeRuntime, run: Run, flavour: Flavour, errors: Callable[[], list[str]]
) -> None:
    @contextmanager
    def translating(task: TaskInfo) -> Iterator[None]:
        try:
            yield
        except LookupError as exc:
            raise OSError("translated") from exc

    @flavour
    def task() -> None:
        raise LookupError("no")

    queue = of(make_runtime(task_middleware=[translating]))
    queue.options(name="task").add_task(task)
    run(queue)
    assert errors() == ["Background task task failed: OSError: translated"]


class _Frozen(Exception):
    def add_note(self, note: str) -> None:
        raise TypeError("nothing may be added to it")


def test_an_exception_that_refuses_its_note_is_raised_all_the_same(
    make_runtime: MakeRuntime,
) -> None:
    class Failing(TaskMiddleware):
        def capture(self, task: TaskInfo) -> Any:
            raise _Frozen

    with pytest.raises(_Frozen):
        of(make_runtime(task_middleware=[Failing()])).add_task(print)


def test_a_task_that_is_thrown_away_with_its_loop_waits_for_nothing(
    make_runtime: MakeRuntime, log: Log
) -> None:
    """What is asynchronous cannot be left any more; what is not, is."""

    @asynccontextmanager
    async def outer(task: TaskInfo) -> AsyncIterator[None]:
        yield
        await asyncio.sleep(0)

    async def task() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        queue = of(make_runtime(task_middleware=[outer, Watch(log)]))
        queue.add_task(task)
        (added,) = queue.batch.left()
        steps = added.call()
        steps.send(None)
        steps.close()
        queue.close(ValueError())

    asyncio.run(main())
    assert log == ["watch in", "watch saw GeneratorExit()"]


# What capture may return.


class _Hidden:
    def __repr__(self) -> str:
        raise RuntimeError("not to be shown")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (object(), "Object of type object is not JSON serializable"),
        (("a", "b"), "it would come back as ['a', 'b']"),
        ({1: "a"}, "it would come back as {'1': 'a'}"),
        ([float("nan")], "it would come back as [nan]"),
        (
            _Hidden(),
            "it has returned what has no repr of type tests.core.test_task_middleware._Hid",
        ),
    ],
)
def test_what_does_not_survive_json_is_refused_in_add_task(
    make_runtime: MakeRuntime, log: Log, value: Any, why: str
) -> None:
    class Unfit(TaskMiddleware):
        def capture(self, task: TaskInfo) -> Any:
            return value if task.name == "one" else "fit"

    runtime = make_runtime(task_middleware=[Unfit()])
    with of(runtime) as tasks:
        with pytest.raises(TypeError, match=r"^capture\(\) has to return None or what sur") as said:
            tasks.options(name="one").add_task(log.append, "one")
        assert why in str(said.value)
        assert said.value.__notes__ == [
            f"Raised in the task middleware {__name__}."
            "test_what_does_not_survive_json_is_refused_in_add_task.<locals>.Unfit."
        ]
        tasks.options(name="two").add_task(log.append, "two")
    assert runtime.drain(PATIENCE) == []
    assert log == ["two"]


def test_what_capture_raises_is_raised_by_add_task_and_names_it(make_runtime: MakeRuntime) -> None:
    """A task that ran without its tenant would be worse than an error in the view."""

    class Failing(TaskMiddleware):
        def capture(self, task: TaskInfo) -> Any:
            raise LookupError("no tenant")

    runtime = make_runtime(task_middleware=[Failing()], on_full="reject", max_pending=1)
    queue = of(runtime)
    with pytest.raises(LookupError, match="no tenant") as said:
        queue.add_task(print)
    assert "Failing" in said.value.__notes__[0]
    assert (len(queue), runtime.in_flight.in_use) == (0, 0)


def test_a_full_backlog_refuses_a_task_as_ever(make_runtime: MakeRuntime, log: Log) -> None:
    runtime = make_runtime(task_middleware=[CurrentUser()], on_full="reject", max_pending=1)
    with of(runtime) as queue:
        queue.add_task(log.append, 1)
        with pytest.raises(QueueFullError):
            queue.add_task(log.append, 2)
    assert runtime.drain(PATIENCE) == []
    assert log == [1]


# What around may return.


def gives(value: Any) -> Callable[[TaskInfo], Any]:
    return lambda task: value() if callable(value) else value


async def _acoroutine() -> None: ...


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "not None of type builtins.NoneType"),
        (_acoroutine, "of type builtins.coroutine"),
        (_Hidden(), "not what has no repr of type tests.core.test_task_middleware._Hidden"),
    ],
)
def test_what_is_no_context_manager_fails_the_task(
    make_runtime: MakeRuntime, run: Run, flavour: Flavour, value: Any, shown: str, log: Log
) -> None:
    events: list[TaskEvent] = []
    runtime = make_runtime(task_middleware=[gives(value)], on_error=events.append)
    queue = of(runtime)
    queue.add_task(flavour(log.append), "task")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(queue)
    (said,) = raised_by(events)
    assert said.startswith("TypeError: around() has to return a context manager, not ")
    assert shown in said
    assert "Raised in the task middleware tests.core.test_task_middleware.gives" in said
    assert log == []


def test_an_asynchronous_one_for_a_sync_task_fails_it(
    make_runtime: MakeRuntime, run: Run, log: Log
) -> None:
    events: list[TaskEvent] = []

    @asynccontextmanager
    async def always_async(task: TaskInfo) -> AsyncIterator[None]:
        yield

    queue = of(make_runtime(task_middleware=[always_async], on_error=events.append))
    queue.options(name="mail").add_task(log.append, "sync")
    run(queue)
    (said,) = raised_by(events)
    assert said.startswith(
        "TypeError: around() has returned an asynchronous context manager for mail, which runs in "
        "a thread. Return a plain one where task.is_async is False.\n"
    )
    assert log == []


# What is never awaited.


@pytest.mark.parametrize("has_close", [True, False])
def test_what_nobody_awaits_is_closed(
    make_runtime: MakeRuntime,
    monkeypatch: pytest.MonkeyPatch,
    has_close: bool,
    errors: Callable[[], list[str]],
) -> None:
    def refuse() -> None:
        raise OSError(24, "Too many open files")

    class Result:
        def __await__(self) -> Any:
            return _acoroutine().__await__()

    monkeypatch.setattr(asyncio, "new_event_loop", refuse)
    runtime = make_runtime(task_middleware=[CurrentUser()])
    with of(runtime) as queue:
        queue.add_task(lambda: _acoroutine() if has_close else Result())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runtime.drain(PATIENCE) == []
    assert len(errors()) == 1


# The setting.


def test_a_middleware_may_be_given_in_every_form(make_runtime: MakeRuntime) -> None:
    named.clear()
    path = "tests.core.test_task_middleware"
    middlewares = [f"{path}.by_path", by_path, f"{path}.Plain", Plain, Plain(), Bare]
    runtime = make_runtime(task_middleware=tuple(middlewares))
    with of(runtime) as queue:
        queue.options(name="task").add_task(print, end="")
    assert runtime.drain(PATIENCE) == []
    assert named == ["task in", "task in", None, None, None, "out", "out"]


def test_settings_made_by_hand_do_as_well(log: Log) -> None:
    runtime = Runtime(Settings(task_middleware=[Watch(log)]), FrameworkHooks())
    with of(runtime) as queue:
        queue.add_task(log.append, "task")
    assert runtime.drain(PATIENCE) == []
    assert log == ["watch in", "task", "watch out"]


ACCEPTED = "task middlewares, functions that return a context manager, or their import paths"


@pytest.mark.parametrize("value", ["a.b", Plain(), None, 1, {"a": 1}])
def test_what_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(SettingsError) as said:
        parse_settings({"task_middleware": value})
    assert str(said.value) == f"task_middleware accepts a list of {ACCEPTED}, not {value!r}"


class NoMethods:
    around = None


async def acontext(task: TaskInfo) -> None: ...


def generator(task: TaskInfo) -> Iterator[None]:
    yield


async def agenerator(task: TaskInfo) -> AsyncIterator[None]:
    yield


def no_arguments() -> None: ...


class Short:
    def around(self, task: TaskInfo) -> None: ...


class AsyncCapture(Plain):
    async def capture(self, task: TaskInfo) -> None: ...


class LongCapture(Plain):
    def capture(self, task: TaskInfo, request: Any) -> None: ...


class NeedsArguments(Plain):
    def __init__(self, dsn: str) -> None: ...


lacks = "lacks @contextmanager or @asynccontextmanager"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1, f"task_middleware[1] accepts {ACCEPTED}, not 1"),
        ("by_path", f"task_middleware[1] accepts {ACCEPTED}, not 'by_path'"),
        (NoMethods(), f"task_middleware[1] accepts {ACCEPTED}, not <"),
        ("no.such.module", "task_middleware[1]: cannot import 'no.such.module': "),
        ("tests.core.test_task_middleware.ACCEPTED", f"[1] accepts {ACCEPTED}, not 'task mid"),
        (acontext, f"is no task middleware: it {lacks}"),
        (generator, f"is no task middleware: it {lacks}"),
        (agenerator, f"is no task middleware: it {lacks}"),
        (no_arguments, "is no task middleware: it is called with the task: too many positional"),
        (Short, "around() is called with the task and what was captured: too many positional"),
        (AsyncCapture, "is no task middleware: capture() has to be a plain function"),
        (LongCapture, "capture() is called with the task: missing a required argument: 'request'"),
        (NeedsArguments, "is no task middleware: NeedsArguments.__init__() missing 1 required"),
    ],
)
def test_what_cannot_be_a_middleware_is_refused_at_set_up(value: Any, why: str) -> None:
    with pytest.raises(SettingsError) as said:
        parse_settings({"task_middleware": [by_path, value]})
    assert why in str(said.value)
    assert str(said.value).startswith("task_middleware[1]")


def test_a_callable_that_does_not_tell_its_arguments_is_accepted() -> None:
    assert len(parse_settings({"task_middleware": [min]}).task_middleware) == 1


def test_a_subclass_may_ask_its_base(make_runtime: MakeRuntime, log: Log) -> None:
    class Asking(TaskMiddleware):
        def capture(self, task: TaskInfo) -> Any:
            return [super().capture(task)]

        def around(self, task: TaskInfo, captured: Any) -> AbstractContextManager[None]:
            log.append(captured)
            return nullcontext()

    runtime = make_runtime(task_middleware=[Asking])
    with of(runtime) as queue:
        queue.add_task(print, end="")
    assert runtime.drain(PATIENCE) == []
    assert log == [[None]]
