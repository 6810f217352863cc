"""What a forked child forgets, in which order."""

from __future__ import annotations

import os
import socketserver
import sys
from collections.abc import Callable
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime
from bgadapters.core import host
from bgadapters.core.process import fork, shutdown
from tests.core.ways import Log, MakeRuntime, lines_of, run_script


def test_resets_have_an_order_and_a_name_registers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[Callable[[], None]] = []

    def register(*, after_in_child: Callable[[], None]) -> None:
        hooks.append(after_in_child)

    monkeypatch.setattr(os, "register_at_fork", register)
    monkeypatch.setattr(fork, "_resets", {})
    monkeypatch.setattr(fork, "_is_hooked", False)
    log: list[Any] = []
    fork.reset_in_child("shim", lambda: log.append("shim"))
    fork.reset_in_child("applications", lambda: log.append("applications"), fork.APPLICATIONS)
    fork.reset_in_child("mode", lambda: log.append("replaced"), fork.MODE)
    fork.reset_in_child("mode", lambda: log.append("mode"), fork.MODE)
    (hook,) = hooks
    hook()
    assert log == ["mode", "applications", "shim"]


def test_a_child_that_forks_again_forgets_again() -> None:
    script = """
    import os
    from bgadapters.adapters import reset_in_child
    reset_in_child("script", lambda: print("forgot", flush=True))
    if not os.fork():
        if not os.fork():
            os._exit(0)
        os.wait()
        os._exit(0)
    os.wait()
    """
    assert lines_of(script) == ["forgot", "forgot"]


def test_where_forks_are_hidden_the_process_is_looked_at(
    make_runtime: MakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a task is to start, now or later, when room is taken for one, and at the end."""
    log: Log = []
    shutdown.register(Runtime())  # which has resets of its own
    resets: dict[tuple[int, str], Callable[[], None]] = {(0, "test"): lambda: log.append("reset")}
    monkeypatch.setattr(fork, "_resets", resets)
    monkeypatch.setattr(host, "hides_forks", lambda: True)
    runtime, full = make_runtime(), make_runtime(on_full="reject")

    def release(runtime: Runtime, **options: float) -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.options(**options).add_task(print)  # type: ignore[arg-type]
        queue.release()

    ways: list[Callable[[], object]] = [
        lambda: release(runtime),
        lambda: release(runtime, delay=0.001),
        lambda: release(full),
        shutdown._at_exit,
    ]
    monkeypatch.setattr(shutdown, "applications", list)
    for way in ways:
        monkeypatch.setattr(fork, "_process", 0)
        way()
        way()
        assert log == ["reset"], way
        del log[:]


def test_a_process_that_is_forked_for_a_request_runs_its_tasks_before_it_ends() -> None:
    """It ends by os._exit. What should run later is named."""
    script = """
    import asyncio, os, socketserver, threading, time, wsgiref.simple_server
    from urllib.request import urlopen
    from bgadapters.adapters import Runtime
    from bgadapters.wsgi import BackgroundTasksMiddleware

    class Server(socketserver.ForkingMixIn, wsgiref.simple_server.WSGIServer):
        pass

    class Handler(wsgiref.simple_server.WSGIRequestHandler):
        def log_message(self, *args):
            pass

    def tell(what):
        time.sleep(0.1)
        os.write(1, f"{what}\\n".encode())

    async def atell(what):
        await asyncio.sleep(0.1)
        os.write(1, f"{what}\\n".encode())

    def app(environ, start_response):
        queue = environ["bgadapters.queue"]
        queue.add_task(tell, "sync")
        queue.add_task(atell, "async")
        queue.options(name="later", delay=60).add_task(print)
        start_response("204 No Content", [])
        return []

    runtime = Runtime()
    app = BackgroundTasksMiddleware(app, runtime=runtime)
    server = wsgiref.simple_server.make_server("127.0.0.1", 0, app, Server, Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    for _ in range(2):
        client = threading.Thread(target=urlopen, args=(url,))
        client.start()
        server.handle_request()
        client.join()
    server.server_close()
    """
    done = run_script(script, flags=("-W", "ignore:This process:DeprecationWarning"))
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["async"] * 2 + ["sync"] * 2)
    why = "1 background task(s) discarded, this process ends with its request: later"
    assert done.stderr.splitlines() == [why] * 2


def test_such_a_process_is_known_by_who_has_called(
    queue: BackgroundTasks,
    log: Log,
    monkeypatch: pytest.MonkeyPatch,
    warned: Callable[[], list[str]],
) -> None:
    assert not host.ends_with_the_request()
    monkeypatch.setattr(host, "ends_with_the_request", lambda: True)
    queue.add_task(log.append, 1)
    queue.release()
    assert log == [1]
    later = BackgroundTasks(runtime=queue.runtime)
    later.options(name="later", delay=60).add_task(print)
    later.release()
    (line,) = warned()
    assert line.endswith("discarded, this process ends with its request: later")
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, socketserver.__name__)
    assert not host.ends_with_the_request()
