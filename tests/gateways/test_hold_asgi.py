"""With ``hold_response`` an ASGI response ends when its tasks have run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bgadapters
from bgadapters import add_task
from bgadapters.adapters import current_queue
from bgadapters.asgi import BackgroundTasksMiddleware
from tests.gateways.asgi_calls import Client, http_scope
from tests.our_log import OurLog

Send = Callable[[Any], Awaitable[None]]
log: list[str] = []


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    log.clear()
    yield
    assert bgadapters.drain(10) == []


async def atask() -> None:
    await asyncio.sleep(0)
    log.append("async")


def start(status: int = 200, **headers: str) -> Any:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": pairs}


def part(body: bytes, more: bool = False) -> Any:
    return {"type": "http.response.body", "body": body, "more_body": more}


def note(message: Any) -> None:
    body = message.get("body")
    log.append(
        "start" if body is None else f"{body.decode()}{'...' if message['more_body'] else ''}"
    )


def serve(
    messages: list[Any],
    fails: BaseException | None = None,
    on_send: Callable[[Any], object] = note,
    method: str = "GET",
    **settings: Any,
) -> list[str]:
    """Have an application with two tasks answer with these messages; return what happened."""

    async def app(_: Any, __: Any, send: Send) -> None:
        add_task(log.append, "plain")
        add_task(atask)
        current_queue().options(always=True).add_task(log.append, "always")
        for message in messages:
            await send(message)
        log.append("returned")
        if fails is not None:
            raise fails

    async def main() -> None:
        client = Client(on_send)
        await made(http_scope(method=method), client.receive, client.send)

    made = BackgroundTasksMiddleware(app, hold_response=True, **settings)
    asyncio.run(main())
    return log


TASKS = ["plain", "async", "always"]


@pytest.mark.parametrize(
    ("messages", "seen"),
    [
        ([start(), part(b"body")], ["start", "returned", *TASKS, "body"]),
        (
            [start(), part(b"bo", True), part(b"dy", True), part(b"")],
            ["start", "bo...", "dy...", "returned", *TASKS, ""],
        ),
        (
            [start(content_length="4"), part(b"bo", True), part(b"dy", True), part(b"")],
            ["start", "bo...", "returned", *TASKS, "dy"],
        ),
        (
            [start(content_length="4"), part(b"bo", True), part(b"dy")],
            ["start", "bo...", "returned", *TASKS, "dy"],
        ),
        (
            [start(content_length="4"), part(b"bo", True), part(b"", True), part(b"dy")],
            ["start", "bo...", "returned", *TASKS, "dy"],
        ),
        ([start(204), part(b"")], ["returned", *TASKS, "start", ""]),
        ([start(302, content_length="0"), part(b"")], ["returned", *TASKS, "start", ""]),
        (
            [start(), {"type": "http.response.debug", "body": b"?", "more_body": True}, part(b".")],
            ["start", "?...", "returned", *TASKS, "."],
        ),
    ],
    ids=["one", "stream", "length", "length, last", "empty", "204", "redirect", "extension"],
)
def test_the_end_comes_after_the_tasks(messages: list[Any], seen: list[str]) -> None:
    """And they after the application, whose exit code may commit."""
    assert serve(messages) == seen


def test_the_head_is_all_of_a_response_to_head() -> None:
    messages = [start(content_length="4"), part(b"", True), part(b"")]
    assert serve(messages, method="HEAD") == ["returned", *TASKS, "start", "...", ""]


def test_a_file_is_sent_but_for_its_last_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgadapters.asgi.files._CHUNK", 4)
    file = tmp_path / "file"
    file.write_bytes(b"body and more")
    messages = [
        start(content_length="13"),
        {"type": "http.response.pathsend", "path": str(file)},
    ]
    parts = ["body...", " and...", " mor..."]
    assert serve(messages) == ["start", *parts, "returned", *TASKS, "e"]


def test_what_fails_before_its_end_discards() -> None:
    with pytest.raises(LookupError):
        serve([start(), part(b"bo", True)], LookupError())
    assert log == ["start", "bo...", "returned", "always"]


def test_what_fails_after_its_end_discards_and_is_sent() -> None:
    """As where the commit fails after the view has returned."""
    with pytest.raises(LookupError):
        serve([start(), part(b"body")], LookupError())
    assert log == ["start", "returned", "always", "body"]


def test_a_client_that_has_left_keeps_the_tasks() -> None:
    def leave(message: Any) -> None:
        note(message)
        if message["type"] == "http.response.body":
            raise OSError("left")

    with pytest.raises(OSError, match="left"):
        serve([start(), part(b"body")], on_send=leave)
    assert log == ["start", "returned", *TASKS, "body"]


def test_a_client_that_leaves_in_the_middle_keeps_the_tasks() -> None:
    def leave(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("left")

    with pytest.raises(OSError, match="left"):
        serve([start(), part(b"bo", True), part(b"dy")], on_send=leave)
    assert sorted(log) == sorted(TASKS)


def test_a_cancelled_call_waits_for_nothing() -> None:
    with pytest.raises(asyncio.CancelledError):
        serve([start(), part(b"body")], asyncio.CancelledError())
    assert log[:2] == ["start", "returned"]
    assert "body" not in log


def test_it_waits_for_the_drain_timeout_and_names_what_is_left(our_log: OurLog) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def slow() -> None:
            await gate.wait()
            log.append("slow")

        async def app(_: Any, __: Any, send: Send) -> None:
            current_queue().options(name="slow").add_task(slow)
            await send(start())
            await send(part(b"body"))

        client = Client(note)
        made = BackgroundTasksMiddleware(app, hold_response=True, drain_timeout=0.01)
        await made(http_scope(), client.receive, client.send)
        assert log == ["start", "body"]
        gate.set()
        assert await made.runtime.adrain(10) == []

    asyncio.run(main())
    assert log == ["start", "body", "slow"]
    assert "before 1 background task(s) that have not finished: slow" in our_log.warnings[0]


def test_a_websocket_is_not_held() -> None:
    async def app(_: Any, __: Any, send: Send) -> None:
        add_task(log.append, "task")
        await send({"type": "websocket.accept"})

    async def main() -> None:
        client = Client()
        scope = {**http_scope(), "type": "websocket"}
        await BackgroundTasksMiddleware(app, hold_response=True)(scope, client.receive, client.send)
        assert [message["type"] for message in client.messages] == ["websocket.accept"]

    asyncio.run(main())
    assert log == ["task"]
