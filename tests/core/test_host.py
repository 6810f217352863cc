"""What is known of servers."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime, Settings
from bgadapters.core import host
from bgadapters.core.drivers import waiting
from bgadapters.core.host import capabilities, uwsgi
from tests.core.ways import Log, MakeRuntime, in_threads, lines_of, reached


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    uwsgi._uwsgi.cache_clear()
    yield
    uwsgi._uwsgi.cache_clear()


@pytest.mark.parametrize(
    ("uwsgi", "run"),
    [
        (None, True),
        (SimpleNamespace(), True),
        (SimpleNamespace(has_threads=1), True),
        (SimpleNamespace(has_threads=0), False),
    ],
)
def test_whether_threads_run(uwsgi: Any, run: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    assert host.has_threads() is run


def test_where_threads_do_not_run_none_is_used(
    make_runtime: MakeRuntime, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(has_threads=0))
    queue = BackgroundTasks(runtime=make_runtime())

    async def task() -> None:
        log.append("async")

    queue.add_task(log.append, "sync")
    queue.add_task(task)
    queue.add_task(log.append, "last")
    queue.release()
    assert log == ["sync", "async", "last"]
    in_threads(queue)


@pytest.mark.parametrize(
    ("module", "asked"),
    [("gunicorn.workers.gasgi", host.closes_with_the_call), ("mod_wsgi", host.owns_signals)],
)
def test_what_a_loaded_module_tells(
    module: str, asked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    assert not asked()
    monkeypatch.setitem(sys.modules, module, SimpleNamespace())
    assert asked()


@pytest.mark.parametrize(
    ("uwsgi", "patience"),
    [
        (None, None),
        (SimpleNamespace(), 60),
        (SimpleNamespace(opt={}), 60),
        (SimpleNamespace(opt={"worker-reload-mercy": b"10"}), 10),
        (SimpleNamespace(opt={"worker-reload-mercy": b"90", "reload-mercy": b"20"}), 20),
    ],
)
def test_a_server_with_less_patience_than_the_drain_is_named_at_start_up(
    uwsgi: Any,
    patience: float | None,
    warned: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "uwsgi", uwsgi)
    found = host.grace_period()
    assert (found and found[0]) == patience
    Runtime(Settings())
    assert len(warned()) == (patience is not None and patience < 30)


def test_whether_a_handler_raises_its_signal_again() -> None:
    from uvicorn import Config, Server

    server = Server(Config(app=print))
    assert host.raises_again(server.handle_exit)
    for other in (signal.SIG_DFL, None, test_whether_threads_run):
        assert not host.raises_again(other)


@pytest.mark.parametrize("kept", [signal.SIGTERM, signal.SIGUSR1])
def test_gunicorn_tells_its_grace_period_by_its_handlers(
    kept: int, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Worker:
        cfg = SimpleNamespace(graceful_timeout=5)

        def handle(self, signum: int, frame: Any) -> None: ...

    handlers = {kept: Worker().handle}
    monkeypatch.setattr(signal, "getsignal", lambda number: handlers.get(number, signal.SIG_DFL))
    Runtime(Settings())
    Runtime(Settings(drain_timeout=5.0))
    (line,) = warned()
    assert line.startswith(
        "The server gives a process that ends 5 s, less than drain_timeout, 30 s"
    )
    assert "graceful_timeout of gunicorn" in line


def test_whether_the_server_was_told_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        should_exit = False

        def handle_exit(self, signum: int, frame: Any) -> None: ...

    server = Server()
    for handler in (signal.SIG_DFL, None, test_whether_threads_run, server.handle_exit):
        monkeypatch.setattr(signal, "getsignal", lambda _, handler=handler: handler)
        assert not host.is_ending()
    server.should_exit = True
    assert host.is_ending()


class Embedded:
    """A server as uvicorn's is, of which nothing is looked at but what it has."""

    should_exit = False

    async def serve(self) -> None:
        await asyncio.sleep(60)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is such a server, and no other of uvicorn's."""
    monkeypatch.setitem(sys.modules, "uvicorn.server", SimpleNamespace(Server=Embedded))


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize("is_awaited", [False, True])
def test_whether_a_server_within_a_program_was_told_to_end(is_awaited: bool) -> None:
    """Its own handlers of signals say nothing: those of the program replace them."""
    server = Embedded()

    async def serves() -> None:
        await server.serve()

    async def main() -> None:
        task = asyncio.create_task(serves() if is_awaited else server.serve())
        await asyncio.sleep(0)
        assert not host.is_ending()
        server.should_exit = True
        assert host.is_ending()
        task.cancel()

    asyncio.run(main())


@pytest.mark.usefixtures("embedded")
def test_what_else_has_such_an_attribute_is_no_server() -> None:
    """The lifespan of uvicorn has one, and a task of its own."""

    class Lifespan:
        should_exit = True

        async def main(self) -> None:
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(Lifespan().main())
        await asyncio.sleep(0)
        assert not host.is_ending()
        task.cancel()

    asyncio.run(main())


@pytest.mark.usefixtures("embedded")
def test_no_server_is_told_to_end_where_none_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not host.is_ending()  # no loop runs here

    async def main() -> None:
        assert not host.is_ending()

    asyncio.run(main())
    monkeypatch.delitem(sys.modules, "uvicorn.server")
    asyncio.run(main())


def test_nobody_waits_without_end_for_a_queue_on_a_server_that_ends(
    warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "POLL_INTERVAL", 0.001)
    looks: Log = []

    def is_ending() -> bool:
        looks.append(1)
        return len(looks) == 3

    monkeypatch.setattr(host, "is_ending", is_ending)
    queue = BackgroundTasks(runtime=Runtime(Settings(drain_timeout=0.01)))

    async def main() -> None:
        queue.options(name="endless").add_task(asyncio.Event().wait)
        await queue()

    asyncio.run(main())
    assert len(looks) == 3
    assert len(warned()) == 1
    assert warned()[0].endswith(": endless")


def test_the_main_thread_is_signalled_by_its_identifier_if_that_is_the_systems(
    monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr(os, "kill", lambda *args: log.append(args))
    monkeypatch.setattr(signal, "pthread_kill", lambda *args: log.append(args))
    for greenlets in (True, False):
        monkeypatch.setattr(
            capabilities, "threads_are_greenlets", lambda greenlets=greenlets: greenlets
        )
        host.signal_main_thread(signal.SIGTERM)
    main = threading.main_thread().ident
    assert log == [(os.getpid(), signal.SIGTERM), (main, signal.SIGTERM)]


def test_who_may_block(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not host.may_block()  # a signal handler may raise in the main thread
    with ThreadPoolExecutor() as pool:
        assert pool.submit(host.may_block).result()
        monkeypatch.setattr(capabilities, "threads_are_greenlets", lambda: True)
        assert not pool.submit(host.may_block).result()


def test_whether_threads_are_greenlets(monkeypatch: pytest.MonkeyPatch) -> None:
    for patched in ([], ["threading"]):
        monkey = SimpleNamespace(is_module_patched=patched.__contains__)
        monkeypatch.setitem(sys.modules, "gevent.monkey", monkey)
        assert host.threads_are_greenlets() is bool(patched)
    monkeypatch.delitem(sys.modules, "gevent.monkey")
    assert not host.threads_are_greenlets()


def test_a_greenlet_starts_when_the_hub_comes_to_it(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gevent", SimpleNamespace(spawn=log.append))
    monkeypatch.setattr(capabilities, "threads_are_greenlets", lambda: True)
    thread = threading.Thread()
    host.start_thread(thread)
    assert log == [thread.start]


def test_a_loop_that_hides_while_it_waits_runs_tasks_as_any_other(
    queue: BackgroundTasks, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "threads_are_greenlets", lambda: True)
    monkeypatch.setattr(host, "start_thread", lambda thread, at_once=False: thread.start())

    async def task() -> None:
        await asyncio.sleep(0.01)
        await asyncio.to_thread(int)
        log.append(type(asyncio.get_running_loop().__dict__["_selector"]).__name__)

    queue.add_task(task)
    in_threads(queue)
    assert log == ["Selector"]


def test_under_gevent_no_other_greenlet_seems_to_have_the_loop_of_async_tasks() -> None:
    """Nor while a task hands work to a thread. There Django's ORM would refuse to work."""
    pytest.importorskip("gevent")
    lines = lines_of(
        """
        from gevent import monkey
        monkey.patch_all()

        import asyncio, threading, time
        from bgadapters import BackgroundTasks, drain
        from bgadapters.core.app.runtime import default_runtime

        seen = []

        def look():
            seen.append(asyncio._get_running_loop())

        async def task():
            for _ in range(5):
                await asyncio.to_thread(look)

        def request():
            for _ in range(50):
                look()
                time.sleep(0)

        requests = [threading.Thread(target=request) for _ in range(4)]
        for thread in requests:
            thread.start()
        for _ in range(20):
            with BackgroundTasks() as tasks:
                tasks.add_task(task)
            time.sleep(0)
        for thread in requests:
            thread.join()
        assert drain(10) == []
        print(len(seen), len([loop for loop in seen if loop is not None]))
        """
    )
    assert lines == ["300 0"]


def test_under_gevent_other_greenlets_may_have_event_loops_of_their_own() -> None:
    """While async tasks run, and after that; and the end of the process waits for tasks."""
    pytest.importorskip("gevent")
    lines = lines_of(
        """
        from gevent import monkey
        monkey.patch_all()

        import asyncio, time
        from bgadapters import BackgroundTasks, drain

        async def task(what):
            await asyncio.sleep(0.01)
            asyncio.get_running_loop()
            print(what, flush=True)

        async def view():
            await asyncio.sleep(0.003)
            asyncio.get_running_loop()

        for number in range(3):
            with BackgroundTasks() as tasks:
                tasks.add_task(task, number)
                tasks.add_task(time.sleep, 0.01)
                tasks.add_task(task, number)
        for _ in range(20):
            asyncio.run(view())
        assert drain(10) == []
        asyncio.run(view())
        with BackgroundTasks() as tasks:
            tasks.add_task(task, "last")
        """
    )
    assert sorted(lines[:-1]) == ["0", "0", "1", "1", "2", "2"]
    assert lines[-1] == "last"


class _Event:
    """As gevent's, where nothing else runs meanwhile."""

    log: ClassVar[Log] = []

    def set(self) -> None:
        self.log.append("set")

    def wait(self, timeout: float | None) -> None:
        self.log.append(timeout)


@pytest.mark.parametrize("is_done", [True, False])
def test_a_greenlet_waits_in_its_hub(monkeypatch: pytest.MonkeyPatch, is_done: bool) -> None:
    said: Log = []
    watcher = SimpleNamespace(
        start=lambda call: said.append(call()),
        stop=lambda: said.append("stop"),
        close=lambda: said.append("close"),
    )
    loop = SimpleNamespace(
        async_=lambda: watcher, run_callback_threadsafe=lambda call: said.append(call)
    )
    monkeypatch.setattr(_Event, "log", said)
    fake = SimpleNamespace(
        get_hub=lambda: SimpleNamespace(loop=loop), event=SimpleNamespace(Event=_Event)
    )
    monkeypatch.setitem(sys.modules, "gevent", fake)
    monkeypatch.setattr(capabilities, "threads_are_greenlets", lambda: True)

    def ask(callback: Callable[[], object]) -> bool:
        callback()
        return is_done

    host.wait_for_thread(ask, 3.0)
    waited = [] if is_done else [3.0]
    assert [said[0], *said[2:]] == [None, *waited, "stop", "close"]
    said[1]()
    assert said[-1] == "set"


def test_a_thread_waits_as_threads_do() -> None:
    asked: Log = []

    def ask(callback: Callable[[], object]) -> bool:
        asked.append("asked")
        callback()
        return False

    host.wait_for_thread(ask)
    host.wait_for_thread(lambda _: True)
    assert asked == ["asked"]


def test_a_real_thread_and_its_lock_are_none_of_gevents(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(run: Callable[[], None], args: tuple[()]) -> None:
        log.append((run, args))

    found = {
        ("_thread", "start_new_thread"): start,
        ("_thread", "allocate_lock"): _thread.allocate_lock,
    }
    monkey = SimpleNamespace(
        is_module_patched=["threading"].__contains__,
        get_original=lambda module, name: found[module, name],
    )
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "gevent.monkey", monkey)
        host.start_real_thread(log.clear, "its name")
        assert host.real_lock().acquire(timeout=0)
    assert log == [(log.clear, ())]


def test_elsewhere_a_real_thread_is_a_thread(log: Log) -> None:
    ran = threading.Event()

    def run() -> None:
        log.append(threading.current_thread().name)
        ran.set()

    host.start_real_thread(run, "its name")
    reached(ran)
    assert log == ["its name"]
    assert host.real_lock().acquire(timeout=0)


def test_under_gevent_a_slow_store_keeps_no_other_greenlet_waiting() -> None:
    pytest.importorskip("gevent")
    lines = lines_of(
        """
        from gevent import monkey
        monkey.patch_all()

        import gevent
        from bgadapters import BackgroundTasks
        from bgadapters.adapters import Runtime, parse_settings, start_serving
        from tests.core import durable_tasks
        from tests.core.memory_store import MemoryStore

        sleep = monkey.get_original("time", "sleep")

        class Slow(MemoryStore):
            def write(self, rows, changes):
                sleep(0.2)
                return super().write(rows, changes)

        store = Slow()
        given = {"store": store, "task_modules": ["tests.core.durable_tasks"]}
        runtime = Runtime(parse_settings(given))
        start_serving(runtime)
        turns = []

        def others():
            while True:
                turns.append(1)
                gevent.sleep(0.001)

        def view(number):
            queue = BackgroundTasks(runtime=runtime)
            queue.options(durable=True).add_task(durable_tasks.note, number)
            queue.confirm()
            print(store.database.ids() != [])
            queue.release()

        other = gevent.spawn(others)
        gevent.joinall([gevent.spawn(view, number) for number in range(3)], raise_error=True)
        print(len(turns) > 10)
        other.kill()
        queue = BackgroundTasks(runtime=runtime)
        queue.options(durable=True).add_task(durable_tasks.note, 3)
        queue.confirm()  # where no other greenlet is left that something could happen to
        queue.release()
        print(runtime.drain(10), durable_tasks.happened, store.database.ids())
        """
    )
    assert lines == ["True", "True", "True", "True", "[] [0, 1, 2, 3] []"]
