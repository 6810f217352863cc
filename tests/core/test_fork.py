"""What a forked child forgets, in which order."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime
from bgadapters.core import host
from bgadapters.core.process import fork, shutdown
from tests.core.ways import Log, MakeRuntime, lines_of


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
        queue = BackgroundTasks(runtime=runtime, **options)  # type: ignore[arg-type]
        queue.add_task(print)
        queue.release()

    ways: list[Callable[[], object]] = [
        lambda: release(runtime),
        lambda: release(runtime, due=0),
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
