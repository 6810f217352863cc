"""WSGI: an engine has a task before the client can know that it was accepted."""

from __future__ import annotations

from typing import Any

import pytest

from bgadapters.adapters import current_queue
from bgadapters.wsgi import BackgroundTasksMiddleware
from tests.core import durable_tasks
from tests.core.memory_engine import MemoryEngine
from tests.core.ways import PATIENCE
from tests.gateways.wsgi_calls import Server


class _Client(Server):
    """Notes how many tasks the engine has when something is sent to it."""

    def __init__(self, engine: MemoryEngine) -> None:
        super().__init__()
        self._engine = engine
        self.seen: list[int] = []

    def write(self, data: bytes) -> None:
        self.seen.append(len(self._engine.messages))
        super().write(data)


def in_a_list(start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"a"]


def by_write(start_response: Any) -> list[bytes]:
    start_response("200 OK", [])(b"a")
    return []


@pytest.mark.parametrize("answer", [in_a_list, by_write])
def test_it_was_sent_before_the_first_byte(answer: Any) -> None:
    """Of an application that has an engine, and no store."""
    engine = MemoryEngine()

    def app(_: Any, start_response: Any) -> list[bytes]:
        current_queue().options(engine="it", send="before_response").add_task(durable_tasks.note, 1)
        return answer(start_response)  # type: ignore[no-any-return]

    middleware = BackgroundTasksMiddleware(
        app, engines={"it": engine}, task_modules=["tests.core.durable_tasks"]
    )
    client = _Client(engine).serve(middleware)
    assert (client.status, client.received, client.seen) == ("200 OK", b"a", [1])
    engine.is_down = True
    assert _Client(engine).serve(middleware).status.startswith("503")
    assert middleware.runtime.drain(PATIENCE) == []
    assert len(engine.messages) == 1
