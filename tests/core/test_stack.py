"""Where a thread or a coroutine is, as text."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Generator
from types import coroutine
from typing import Any

from bgadapters.core import host
from tests.core.ways import lines_of, reached


def test_a_coroutine_is_shown_down_to_what_it_waits_for() -> None:
    @coroutine
    def gives_way() -> Generator[None, None, None]:
        yield

    async def inner() -> None:
        await gives_way()

    async def outer() -> None:
        await inner()

    steps = outer()
    steps.send(None)
    shown = host.shown_coroutine(steps)
    steps.close()
    places = [shown.index(f"in {name}") for name in ("outer", "inner", "gives_way")]
    assert places == sorted(places)


def test_what_waits_for_an_async_generator_is_shown() -> None:
    async def numbers() -> AsyncIterator[int]:
        await asyncio.get_running_loop().create_future()
        yield 1

    async def outer() -> None:
        async for _ in numbers():
            pass  # pragma: no cover  none comes

    async def main() -> str:
        task = asyncio.create_task(outer())
        await asyncio.sleep(0)
        shown = host.shown_coroutine(task.get_coro())
        task.cancel()
        return shown

    assert "in outer" in asyncio.run(main())


def test_what_has_ended_is_nowhere() -> None:
    async def done() -> None:
        pass

    steps = done()
    steps.close()
    assert host.shown_coroutine(steps) == ""
    assert host.shown_thread(None) == ""


def test_a_thread_is_shown_where_it_is_at_work_now() -> None:
    told: list[Any] = []
    is_told, may_end = threading.Event(), threading.Event()

    def outer() -> None:
        told.append(host.watched_thread())
        is_told.set()
        inner()

    def inner() -> None:
        reached(may_end)

    thread = threading.Thread(target=outer)
    thread.start()
    reached(is_told)
    (frame,) = told
    while "inner" not in host.shown_thread(frame()):
        pass
    shown = host.shown_thread(frame())
    may_end.set()
    thread.join()
    assert shown.index("in outer") < shown.index("in inner")
    assert thread.ident not in sys._current_frames()
    assert frame() is None


def test_a_thread_may_be_looked_at_whatever_the_garbage_collector_finds() -> None:
    """Before Python 3.12 it began in the middle of that, and the process stood still."""
    script = """
    import gc, threading
    from bgadapters.core import host

    over = threading.Event()
    for _ in range(20):  # each has a frame to be made, of which one may start the collector
        threading.Thread(target=over.wait, daemon=True).start()
    gc.set_threshold(30)
    ident = threading.get_ident()
    for _ in range(300):
        garbage = [threading.local()]
        garbage[0].value = garbage  # which the collector alone finds
        del garbage
        assert host.frame_of_thread(ident) is not None
    print("looked")
    """
    assert lines_of(script) == ["looked"]


def test_a_look_at_a_thread_leaves_the_garbage_collector_as_it_is() -> None:
    ident = threading.get_ident()
    assert gc.isenabled()
    assert host.frame_of_thread(ident) is not None
    assert gc.isenabled()
    gc.disable()
    try:
        assert host.frame_of_thread(ident) is not None
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_thread_that_has_ended_is_nowhere() -> None:
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
    assert host.frame_of_thread(thread.ident or 0) is None
