"""Whatever options are combined: every task ends in exactly one outcome, and that is told once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from bgadapters import BackgroundTasks, Retry, TaskEvent
from bgadapters.adapters import Outcome, Runtime, Settings
from tests.core.conftest import stop_loop
from tests.core.ways import PATIENCE

NEVER = 1e6

SPECS = st.fixed_dictionaries(
    {
        "is_async": st.booleans(),
        "failures": st.integers(0, 3),
        "asks": st.sampled_from([None, 0.001, NEVER]),
        "options": st.fixed_dictionaries(
            {},
            optional={
                "retries": st.integers(0, 3),
                "backoff": st.sampled_from([0.0, 0.001]),
                "delay": st.sampled_from([0.0, 0.001, NEVER]),
                "priority": st.sampled_from([-1, 1]),
                "always": st.booleans(),
            },
        ),
    }
)


def task_of(spec: Any, calls: Counter[str], name: str) -> Any:
    def run() -> None:
        calls[name] += 1
        if calls[name] <= spec["failures"]:
            raise Retry(delay=spec["asks"])

    async def arun() -> None:
        await asyncio.sleep(0)
        run()

    return arun if spec["is_async"] else run


@settings(max_examples=60, deadline=None)
@given(
    specs=st.lists(SPECS, min_size=1, max_size=6),
    end=st.sampled_from(["release", "discard", "close", "await"]),
    timeout=st.sampled_from([0.0, PATIENCE]),
)
def test_every_task_has_one_outcome(specs: list[Any], end: str, timeout: float) -> None:
    told: list[tuple[str, str]] = []
    attempts: list[tuple[str, str, int]] = []

    def note(event: TaskEvent) -> None:
        if event.kind in get_args(Outcome):
            told.append((event.name, event.kind))
        attempts.append((event.name, event.kind, event.attempt))

    runtime = Runtime(Settings(on_event=note, max_workers=2))
    calls: Counter[str] = Counter()
    queue = BackgroundTasks(runtime=runtime)
    for number, spec in enumerate(specs):
        func = task_of(spec, calls, str(number))
        queue.options(name=str(number), **spec["options"]).add_task(func)
    if end == "await":
        asyncio.run(queue.arelease())
    elif end == "release":
        queue.release()
    else:
        getattr(queue, end)(KeyError("view"))
        queue.release()
    left = runtime.drain(timeout)
    runtime.drain(PATIENCE)
    stop_loop(runtime)
    assert sorted(name for name, _ in told) == sorted(map(str, range(len(specs))))
    assert sorted(left) == sorted(name for name, kind in told if kind == "abandoned")
    for number, spec in enumerate(specs):
        begun = [n for name, kind, n in attempts if (name, kind) == (str(number), "started")]
        kinds = [kind for name, kind, _ in attempts if name == str(number)]
        if kinds[-2:-1] == ["abandoned"]:  # which the drain's thread has told first
            assert kinds.pop() in ("started", "retrying")
        assert kinds[-1] in get_args(Outcome), kinds  # nothing comes of it afterwards
        assert begun == list(range(1, len(begun) + 1))
        assert len(begun) <= 1 + spec["options"].get("retries", 0)
