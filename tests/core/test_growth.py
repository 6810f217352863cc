"""What has run leaves nothing behind, however much it was."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime
from tests.core.ways import PATIENCE, MakeRuntime

_MANY = 1_000
_FEW = _MANY // 10
_MOST_OF_A_RESPONSE = 32  # 29, and what other threads make meanwhile


def nothing() -> None: ...


async def anothing() -> None:
    await asyncio.sleep(0)


def one_long_queue(runtime: Runtime) -> None:
    queue = BackgroundTasks(runtime=runtime)
    for _ in range(_MANY):
        queue.add_task(nothing)
    queue.release()
    assert runtime.drain(PATIENCE) == []


def many_queues(runtime: Runtime) -> None:
    for _ in range(_MANY):
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(nothing)
        queue.release()
    assert runtime.drain(PATIENCE) == []


def many_at_once_on_a_loop(runtime: Runtime) -> None:
    async def respond() -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(anothing)
        await runtime.admission.await_capacity(queue.batch)
        await queue.arelease()

    async def main() -> None:
        await asyncio.gather(*(respond() for _ in range(_MANY)))

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def objects() -> int:
    for _ in range(3):
        gc.collect()
    return len(gc.get_objects())


@pytest.mark.parametrize("max_pending", [50, 2 * _MANY], ids=["held back", "with room"])
@pytest.mark.parametrize("run", [one_long_queue, many_queues, many_at_once_on_a_loop])
def test_nothing_is_left_of_what_has_run(
    run: Callable[[Runtime], None], max_pending: int, make_runtime: MakeRuntime
) -> None:
    runtime = make_runtime(max_pending=max_pending)
    run(runtime)  # the threads and what is made once
    before = objects()
    run(runtime)
    assert objects() - before < _FEW


def test_a_response_that_waits_is_few_objects_to_the_garbage_collector(
    make_runtime: MakeRuntime,
) -> None:
    # The collector looks at each again and again while thousands wait.
    runtime = make_runtime()

    async def respond(go_on: asyncio.Event) -> None:
        queue = BackgroundTasks(runtime=runtime)
        queue.add_task(go_on.wait)
        await queue.arelease()

    async def objects_of(responses: int) -> int:
        before, go_on = objects(), asyncio.Event()
        waiting = [asyncio.create_task(respond(go_on)) for _ in range(responses)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        found = objects() - before
        go_on.set()
        await asyncio.gather(*waiting)
        return found

    async def main() -> None:
        await objects_of(1)  # what is made once
        assert await objects_of(_FEW) <= _MOST_OF_A_RESPONSE * _FEW

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
