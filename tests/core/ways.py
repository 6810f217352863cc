"""The ways a queue is run, and how tests wait: for events, with patience."""

from __future__ import annotations

import asyncio
import functools
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from typing import Any, Protocol
from unittest import mock

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime
from bgadapters.core import host

PATIENCE = 10.0

Log = list[Any]
Run = Callable[[BackgroundTasks], None]
Flavour = Callable[[Callable[..., Any]], Callable[..., Any]]

starts_threads_at_exit = pytest.mark.xfail(
    (3, 12) <= sys.version_info < (3, 12, 3),
    reason="python/cpython#113964: no thread can be started once the main thread has ended",
    strict=False,  # what has a thread by then runs all the same
)


class MakeRuntime(Protocol):
    """Make a runtime whose books are checked when the test is over."""

    def __call__(
        self, *, scope: Any = None, ascope: Any = None, context: Any = None, **settings: Any
    ) -> Runtime: ...


def reached(event: threading.Event) -> None:
    assert event.wait(PATIENCE), "what the test waits for did not come to pass"


def in_threads(queue: BackgroundTasks) -> None:
    """As under WSGI: no event loop here, and the release does not wait."""
    queue.release()
    assert queue.runtime.drain(PATIENCE) == []


def on_a_loop(queue: BackgroundTasks) -> None:
    """As under ASGI when the client has left: released on a loop, awaited by nobody."""

    async def main() -> list[str]:
        queue.release()
        return await queue.runtime.adrain(PATIENCE)

    assert asyncio.run(main()) == []


def awaited(queue: BackgroundTasks) -> None:
    """As under ASGI: the call that made the response awaits the queue."""

    async def main() -> None:
        await asyncio.wait_for(queue(), PATIENCE)

    asyncio.run(main())


def in_the_releasing_thread(queue: BackgroundTasks) -> None:
    """As where no thread can be started."""
    silent = mock.patch.object(queue.runtime.scheduler, "_say_that_there_are_no_threads")
    with mock.patch.object(host, "has_threads", return_value=False), silent:
        queue.release()


def as_coroutine_function(func: Callable[..., Any]) -> Callable[..., Any]:
    """The same task, async: it lets the loop take a turn and then does the same."""

    @functools.wraps(func)
    async def task(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return func(*args, **kwargs)

    return task


def run_script(
    source: str, *args: str, flags: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a script in an interpreter of its own, which must end by itself."""
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(source), *args],
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )


def lines_of(source: str, *args: str, flags: tuple[str, ...] = ()) -> list[str]:
    """What a script prints that ends well and has nothing to complain about."""
    done = run_script(source, *args, flags=flags)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()
