"""A key where the tasks go: another task with it waits there, so this one is left out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from bgadapters import BackgroundTasks, task_options
from bgadapters.adapters import Call, Runtime
from bgadapters.engines import Ability, KeyIsTaken, Message, SentByCommit
from tests.core.memory_engine import MemoryEngine, Own
from tests.core.ways import PATIENCE, MakeRuntime

WAITS = "another task waits with the key 'a'"


class Taken(MemoryEngine):
    """All of its keys are taken."""

    abilities: ClassVar[frozenset[Ability]] = MemoryEngine.abilities | frozenset[Ability]({"key"})

    def send(self, message: Message) -> None:
        super().send(message)
        raise KeyIsTaken(WAITS)

    def send_in_transaction(self, message: Message, session: object) -> SentByCommit | None:
        super().send_in_transaction(message, session)
        raise KeyIsTaken(WAITS)

    def check_call(self, call: Call) -> None:
        if call.args:
            raise TypeError("no positional arguments")


class Accepting(Own):
    """Nobody but its engine knows what it accepts."""

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("it is sent, and not called")


@task_options()
def task() -> None:
    """Is not called."""


@pytest.fixture
def engine() -> Taken:
    return Taken()


@pytest.fixture
def ends() -> list[tuple[str, str | None]]:
    return []


@pytest.fixture
def runtime(
    make_runtime: MakeRuntime, engine: Taken, ends: list[tuple[str, str | None]]
) -> Runtime:
    def note(event: object) -> None:
        if getattr(event, "kind", "") not in {"added", "started"}:
            ends.append((event.kind, event.reason))  # type: ignore[attr-defined]

    return make_runtime(engines={"there": engine}, on_event=note)


def in_its_turn(queue: BackgroundTasks) -> None:
    queue.options(engine="there", key="a").add_task(task)


def before(queue: BackgroundTasks) -> None:
    queue.options(engine="there", key="a", send="before_response").add_task(task)
    queue.confirm()


def before_on_a_loop(queue: BackgroundTasks) -> None:
    queue.options(engine="there", key="a", send="before_response").add_task(task)
    asyncio.run(queue.aconfirm())


def in_transaction(queue: BackgroundTasks) -> None:
    queue.options(engine="there", key="a", send="in_transaction").add_task(task)


@pytest.mark.parametrize("add", [in_its_turn, before, before_on_a_loop, in_transaction])
def test_the_later_one_ends_as_replaced(
    add: Callable[[BackgroundTasks], None],
    queue: BackgroundTasks,
    runtime: Runtime,
    engine: Taken,
    ends: list[tuple[str, str | None]],
) -> None:
    with queue:
        add(queue)
    assert runtime.drain(PATIENCE) == []
    assert ends == [("replaced", WAITS)]
    assert len(engine.messages) + len(engine.in_transaction) == 1


def test_the_arguments_of_an_engines_own_objects_are_checked_by_it(
    queue: BackgroundTasks, runtime: Runtime
) -> None:
    with queue:
        with pytest.raises(TypeError, match="no positional arguments"):
            queue.options(engine="there").add_task(Accepting("own"), 1)
        queue.options(engine="there").add_task(Accepting("own"), a=1)
    assert runtime.drain(PATIENCE) == []
