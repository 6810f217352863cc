"""The ASGI middleware around bare applications, called as servers call them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import bgadapters
from bgadapters import (
    NoResponseError,
    QueueClosedError,
    QueueFullError,
    ResponseOutcome,
    SettingsError,
    add_task,
    current_task,
)
from bgadapters.adapters import current_queue
from bgadapters.asgi import RESPONSE_KEY, BackgroundTasksMiddleware, Response
from bgadapters.core.drivers import in_flight
from tests.gateways.asgi_calls import (
    App,
    Client,
    Message,
    http_scope,
    is_last,
    noting,
    serve,
    websocket,
)
from tests.our_log import OurLog

View = Callable[[], Awaitable[object] | None]
START = {"type": "http.response.start", "status": 200, "headers": []}
LAST = {"type": "http.response.body", "body": b"dy"}


def answering(view: View) -> App:
    """Return an application that calls ``view`` before it answers in two chunks."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        result = view()
        if result is not None:
            await result
        await send(START)
        await send({"type": "http.response.body", "body": b"bo", "more_body": True})
        await send(LAST)

    return app


def add_always(call: Callable[[str], None], argument: str) -> None:
    current_queue().options(always=True).add_task(call, argument)


def test_tasks_start_after_the_last_byte_and_have_finished_when_the_call_returns() -> None:
    log: list[str] = []

    async def async_task() -> None:
        log.append("async task")

    def view() -> None:
        add_task(async_task)
        add_task(log.append, "sync task")

    async def main() -> None:
        client = noting(log, "last")
        await client.request(BackgroundTasksMiddleware(answering(view)))
        log.append("returned")

    asyncio.run(main())
    assert log == ["last", "async task", "sync task", "returned"]


def test_tasks_may_be_added_while_the_body_is_sent() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        add_task(log.append, "task")
        await send({"type": "http.response.body", "body": b"bo", "more_body": True})
        await send(LAST)
        add_task(log.append, "after the last byte")

    assert serve(BackgroundTasksMiddleware(app)).body == b"body"
    assert log == ["task", "after the last byte"]


def test_sync_tasks_do_not_block_the_event_loop() -> None:
    """The first task waits for something that only the event loop can do."""
    released = threading.Event()
    log: list[str] = []

    def view() -> None:
        add_task(lambda: log.append(f"released: {released.wait(10)}"))
        asyncio.get_running_loop().call_later(0.01, released.set)

    serve(BackgroundTasksMiddleware(answering(view)))
    assert log == ["released: True"]


def test_an_application_that_raises_before_the_response_discards_its_tasks(
    our_log: OurLog,
) -> None:
    log: list[str] = []

    async def fail() -> None:
        add_task(log.append, "discarded")
        add_always(log.append, "always")
        raise ValueError("no answer")

    async def main() -> None:
        with pytest.raises(ValueError, match="no answer"):
            await Client().request(BackgroundTasksMiddleware(answering(fail)))
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]
    (warning,) = our_log.warnings
    assert "1 background task(s) discarded" in warning
    assert "ValueError: no answer" in warning


def test_an_application_that_raises_half_way_discards_its_tasks() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "discarded")
        add_always(log.append, "always")
        await send(START)
        await send({"type": "http.response.body", "body": b"bo", "more_body": True})
        raise ValueError("half way")

    async def main() -> None:
        with pytest.raises(ValueError, match="half way"):
            await Client().request(BackgroundTasksMiddleware(app))
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["always"]


def test_an_application_that_sends_no_response_discards_its_tasks(
    our_log: OurLog,
) -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "discarded")

    serve(BackgroundTasksMiddleware(app))
    assert log == []
    (warning,) = our_log.warnings
    assert "NoResponseSent" in warning


def test_an_error_response_that_was_sent_runs_its_tasks() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "task")
        await send(START | {"status": 500})
        await send(LAST)

    assert serve(BackgroundTasksMiddleware(app)).status == 500
    assert log == ["task"]


def test_a_call_cancelled_before_its_response_discards_its_tasks() -> None:
    log: list[str] = []

    async def main() -> None:
        waiting = asyncio.Event()

        async def wait() -> None:
            add_task(log.append, "discarded")
            add_always(log.append, "always")
            waiting.set()
            await asyncio.Event().wait()

        await cancel_when(waiting, Client().request(BackgroundTasksMiddleware(answering(wait))))

    asyncio.run(main())
    assert log == ["always"]


def test_a_call_cancelled_while_it_sends_its_response_runs_its_tasks() -> None:
    """Some servers cancel the call of a client that left; the view had succeeded."""
    log: list[str] = []

    async def main() -> None:
        waiting = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            add_task(log.append, "task")
            await send(START)
            waiting.set()
            await asyncio.Event().wait()

        await cancel_when(waiting, Client().request(BackgroundTasksMiddleware(app)))

    asyncio.run(main())
    assert log == ["task"]


def test_a_call_cancelled_while_its_tasks_run_cancels_none_of_them() -> None:
    log: list[str] = []

    async def main() -> None:
        running, gate = asyncio.Event(), asyncio.Event()

        async def task() -> None:
            running.set()
            await gate.wait()
            log.append("finished")

        def view() -> None:
            add_task(task)
            add_task(log.append, "next")

        app = BackgroundTasksMiddleware(answering(view))
        asyncio.get_running_loop().create_task(open_when(running, gate))
        await cancel_when(running, Client().request(app))

    asyncio.run(main())
    assert log == ["finished", "next"]


async def cancel_when(event: asyncio.Event, call: Any) -> None:
    """Cancel a call once ``event`` is set, expect it to end so, and let the tasks finish."""
    request = asyncio.ensure_future(call)
    await event.wait()
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await bgadapters.adrain()


async def open_when(event: asyncio.Event, gate: asyncio.Event) -> None:
    await event.wait()
    await asyncio.sleep(0)  # the canceller, which waits for the same event, goes first
    gate.set()


@pytest.mark.parametrize("at", ["http.response.start", "http.response.body"])
def test_a_client_that_left_while_the_response_was_sent_cancels_no_task(at: str) -> None:
    """Servers of ASGI 2.4 and later raise OSError from ``send`` then."""
    log: list[str] = []

    def leave(message: Message) -> None:
        if message["type"] == at:
            raise ConnectionResetError

    async def main() -> None:
        app = BackgroundTasksMiddleware(answering(lambda: add_task(log.append, "task")))
        with pytest.raises(ConnectionResetError):
            await Client(on_send=leave).request(app)
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["task"]


@pytest.mark.parametrize("leaves", ["before the end", "after it"])
def test_a_task_is_told_whether_the_client_left_before_it_had_everything(leaves: str) -> None:
    """Servers tell the application that it has left after each response, too."""
    seen: list[ResponseOutcome | None] = []
    client = Client()

    def note() -> None:
        task = current_task()
        assert task is not None
        seen.append(task.response)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add_task(note)
        await receive()
        await send(START)
        if leaves == "before the end":
            client.left.set()
            await receive()
        await send(LAST)
        await receive()

    async def main() -> None:
        await client.request(BackgroundTasksMiddleware(app))
        await bgadapters.adrain()

    asyncio.run(main())
    assert seen == [ResponseOutcome(200, None, leaves == "before the end")]


def test_an_os_error_of_the_application_itself_discards_its_tasks() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "discarded")
        await send(START)
        raise FileNotFoundError

    with pytest.raises(FileNotFoundError):
        serve(BackgroundTasksMiddleware(app))
    bgadapters.drain()
    assert log == []


def test_an_answer_given_while_an_exception_of_a_view_is_handled_discards_its_tasks() -> None:
    """So Starlette and Litestar turn an exception of the view into a response."""
    log: list[str] = []

    async def view(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "discarded")
        raise ValueError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await view(scope, receive, send)
        except ValueError:
            add_task(log.append, "handler")
            await send(START | {"status": 400})
            await send(LAST)
        add_task(log.append, "added since")

    assert serve(BackgroundTasksMiddleware(app)).status == 400
    assert log == ["handler", "added since"]


def test_an_answer_given_while_another_exception_is_handled_is_a_response_like_any() -> None:
    """A miss in a cache, a view that catches what it has called: no application has failed."""
    log: list[str] = []

    def look_up(scope: Any) -> None:
        raise KeyError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "before")
        try:
            look_up(scope)
        except KeyError:
            add_task(log.append, "task")
            await asyncio.to_thread(add_task, log.append, "of a sync view")
            await send(START)
            await send(LAST)

    serve(BackgroundTasksMiddleware(app))
    assert log == ["before", "task", "of a sync view"]


def test_an_exception_that_was_answered_and_is_raised_again_discards_once() -> None:
    """As Starlette does for the server's log, where the middleware is outside of all."""
    log: list[str] = []

    async def view(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "discarded")
        raise ValueError("failed")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await view(scope, receive, send)
        except ValueError:
            add_task(log.append, "handler")
            await send(START | {"status": 500})
            await send(LAST)
            raise

    async def main() -> None:
        with pytest.raises(ValueError, match="failed"):
            await Client().request(BackgroundTasksMiddleware(app))
        await bgadapters.adrain()

    asyncio.run(main())
    assert log == ["handler"]


def retrying(app: App) -> App:
    async def retries(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except ConnectionError:
            pass
        else:
            return
        await app(scope, receive, send)

    return retries


def in_another_task(app: App) -> App:
    async def passes(scope: Any, receive: Any, send: Any) -> None:
        messages: asyncio.Queue[Message] = asyncio.Queue()
        call = asyncio.ensure_future(app(scope, receive, messages.put))
        while not is_last(message := await messages.get()):
            await send(message)
        await send(message)
        await call

    return passes


def test_a_second_middleware_further_in_sees_the_attempts_between_them() -> None:
    log, attempts = list[str](), list[int]()

    def view() -> None:
        attempts.append(1)
        add_task(log.append, f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise ConnectionError

    inner = BackgroundTasksMiddleware(answering(view))

    async def adding(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "middleware")
        await retrying(inner)(scope, receive, send)

    serve(BackgroundTasksMiddleware(adding))
    assert log == ["middleware", "attempt 2"]


def test_a_second_middleware_further_in_sees_what_another_asyncio_task_hides() -> None:
    log: list[str] = []

    async def view(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "discarded")
        raise ValueError

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await view(scope, receive, send)
        except ValueError:
            await send(START | {"status": 400})
            await send(LAST)

    inner = BackgroundTasksMiddleware(app)
    serve(BackgroundTasksMiddleware(in_another_task(inner)))
    assert log == []


def test_an_application_that_calls_itself_makes_another_request() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/inner":
            add_task(log.append, "discarded")
            raise ValueError
        add_task(log.append, "before")
        with pytest.raises(ValueError):  # noqa: PT011
            await served({**scope, "path": "/inner"}, receive, Client().send)
        add_task(log.append, "after")
        await send(START)
        await send(LAST)

    served = BackgroundTasksMiddleware(app)
    serve(served)
    assert log == ["before", "after"]


@pytest.mark.parametrize("adds", [True, False])
def test_a_file_that_a_server_would_send_by_itself_is_sent_before_its_tasks(
    adds: bool, tmp_path: Path
) -> None:
    """Servers open it when the call has returned, when a task may have removed it."""
    file = tmp_path / "report.csv"
    body = b"x" * 600_000
    file.write_bytes(body)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if adds:
            add_task(file.unlink)
        await send(START)
        await send({"type": "http.response.pathsend", "path": str(file)})

    client = serve(BackgroundTasksMiddleware(app))
    assert client.body == (body if adds else b"")
    assert client.messages[-1]["type"].endswith("body" if adds else "pathsend")
    assert file.exists() is not adds


def test_such_a_file_that_is_missing_discards_the_tasks() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "discarded")
        await send(START)
        await send({"type": "http.response.pathsend", "path": "/missing"})

    with pytest.raises(FileNotFoundError):
        serve(BackgroundTasksMiddleware(app))
    bgadapters.drain()
    assert log == []


def test_an_exception_that_the_caller_handles_is_not_the_applications() -> None:
    log: list[str] = []
    app = BackgroundTasksMiddleware(answering(lambda: add_task(log.append, "task")))

    async def main() -> None:
        try:
            raise LookupError
        except LookupError:
            await Client().request(app)

    asyncio.run(main())
    assert log == ["task"]


def test_nested_middlewares_share_one_queue() -> None:
    log: list[str] = []
    inner = BackgroundTasksMiddleware(answering(lambda: add_task(log.append, "inside")))

    async def between(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "between")
        await inner(scope, receive, send)

    serve(BackgroundTasksMiddleware(between))
    assert log == ["between", "inside"]


def test_a_middleware_that_passes_on_a_copy_of_the_scope_keeps_one_queue() -> None:
    log: list[str] = []
    inner = BackgroundTasksMiddleware(answering(lambda: add_task(log.append, "inside")))

    async def copying(scope: Any, receive: Any, send: Any) -> None:
        add_task(log.append, "between")
        await inner(dict(scope), receive, send)

    serve(BackgroundTasksMiddleware(copying))
    assert log == ["between", "inside"]


def test_a_scope_used_again_after_a_failed_attempt_gets_a_queue_of_its_own() -> None:
    """As a middleware does that calls the application a second time."""
    log: list[str] = []
    attempts: list[int] = []

    def view() -> None:
        attempts.append(1)
        add_task(log.append, f"attempt {len(attempts)}")
        if len(attempts) == 1:
            raise ConnectionError

    app = BackgroundTasksMiddleware(answering(view))

    async def retrying(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except ConnectionError:
            await app(scope, receive, send)

    serve(retrying)
    assert log == ["attempt 2"]


def test_outside_of_a_response_there_is_no_queue_to_add_to() -> None:
    async def main() -> None:
        await Client().request(BackgroundTasksMiddleware(answering(lambda: None)))
        with pytest.raises(NoResponseError, match="where no response is being made"):
            add_task(print)

    asyncio.run(main())


def test_a_queue_is_closed_with_its_response_whether_or_not_it_was_used() -> None:
    """One to which nothing was added as well: nobody would release what comes later."""
    queues: list[Any] = []

    async def main() -> None:
        app = BackgroundTasksMiddleware(answering(lambda: queues.append(current_queue())))
        await Client().request(app)

    asyncio.run(main())
    (queue,) = queues
    assert not queue.is_open
    with pytest.raises(QueueClosedError, match="was released and finished"):
        queue.add_task(print)
    assert len(queue) == 0
    with pytest.raises(AttributeError, match="has no attribute 'never'"):
        _ = queue.never


def test_threads_that_add_the_first_task_at_one_time_add_to_the_same_queue() -> None:
    log: list[int] = []
    threads, times = 4, 50

    def view() -> None:
        queue, together = current_queue(), threading.Barrier(threads)

        def add(number: int) -> None:
            together.wait()
            queue.add_task(log.append, number)

        adding = [threading.Thread(target=add, args=(number,)) for number in range(threads)]
        for each in adding:
            each.start()
        for each in adding:
            each.join()
        first = queue.batch
        assert queue.__getattr__("batch") is first  # as one finds that was slower

    async def main() -> None:
        app = BackgroundTasksMiddleware(answering(view))
        for _ in range(times):
            await Client().request(app)

    asyncio.run(main())
    assert sorted(log) == sorted(list(range(threads)) * times)


def test_responses_made_side_by_side_have_queues_of_their_own() -> None:
    log: list[str] = []

    async def main() -> None:
        both = asyncio.Barrier(2)  # type: ignore[attr-defined,unused-ignore]
        user: ContextVar[str] = ContextVar("user")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            user.set(scope["path"])
            add_task(lambda: log.append(user.get()))
            await both.wait()
            queue = scope[RESPONSE_KEY].queue
            assert len(queue) == 1
            await send(START)
            await send(LAST)

        served = BackgroundTasksMiddleware(app)
        await asyncio.gather(
            *(Client().request(served, http_scope(path)) for path in ("/ada", "/bob"))
        )

    asyncio.run(main())
    assert sorted(log) == ["/ada", "/bob"]


def test_the_tasks_of_a_websocket_run_while_it_lasts() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ran = asyncio.Event()
        await send({"type": "websocket.accept"})
        add_task(log.append, "task")
        add_task(ran.set)
        await asyncio.to_thread(add_task, asyncio.sleep, 0)
        await ran.wait()
        log.append("closes")
        await send({"type": "websocket.close"})

    websocket(BackgroundTasksMiddleware(app))
    assert log == ["task", "closes"]


def test_a_websocket_takes_no_message_while_the_backlog_is_full() -> None:
    log: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gate = asyncio.Event()

        async def task() -> None:
            await gate.wait()
            log.append("room")

        add_task(task)
        asyncio.get_running_loop().call_later(0.01, gate.set)
        await receive()
        log.append("message")

    websocket(BackgroundTasksMiddleware(app, max_pending=1))
    assert log == ["room", "message"]


def test_a_view_may_answer_503_when_the_backlog_is_full() -> None:
    async def main() -> list[int]:
        gate = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            try:
                add_task(gate.wait)
            except QueueFullError:
                await send(START | {"status": 503})
            else:
                await send(START | {"status": 202})
            await send(LAST)

        limited = BackgroundTasksMiddleware(app, max_pending=2, on_full="reject")
        accepted = [Client(), Client()]
        calls = [asyncio.ensure_future(client.request(limited)) for client in accepted]
        while not all(client.messages for client in accepted):
            await asyncio.sleep(0)
        refused = Client()
        await refused.request(limited)
        gate.set()
        await asyncio.gather(*calls)
        again = Client()
        await again.request(limited)
        return [client.status for client in (*accepted, refused, again)]

    assert asyncio.run(main()) == [202, 202, 503, 202]


def test_a_full_backlog_holds_a_response_back_until_there_is_room() -> None:
    """Natural back-pressure: who brings more work than can be done waits for its answer."""
    log: list[str] = []

    async def main() -> None:
        gate, running = asyncio.Event(), asyncio.Event()

        async def blocking() -> None:
            running.set()
            await gate.wait()
            log.append("room")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/first":
                add_task(blocking)
            elif scope["path"] == "/second":
                add_task(log.append, "second's task")
                asyncio.get_running_loop().call_soon(gate.set)
            await send(START)
            await send(LAST)

        def note(name: str) -> Client:
            return noting(log, f"{name} sent")

        limited = BackgroundTasksMiddleware(app, max_pending=1)
        first = asyncio.ensure_future(note("first").request(limited, http_scope("/first")))
        await running.wait()
        await note("without tasks").request(limited, http_scope("/"))
        await note("second").request(limited, http_scope("/second"))
        await first

    asyncio.run(main())
    assert log == ["first sent", "without tasks sent", "room", "second sent", "second's task"]


@pytest.mark.parametrize("in_a_thread", [False, True])
def test_tasks_that_call_their_own_application_wait_for_nothing_that_they_hold(
    in_a_thread: bool, our_log: OurLog
) -> None:
    """Neither for room in the backlog nor for a worker thread."""
    log: list[str] = []

    meeting, threads_meet = asyncio.Barrier(2), threading.Barrier(2)

    async def outer() -> None:
        await meeting.wait()
        await asyncio.gather(*(inner() for _ in range(2)))

    def outer_in_a_thread() -> None:
        threads_meet.wait(10)
        for _ in range(2):
            asyncio.run(inner())

    async def inner() -> None:
        log.append(f"status {(await Client().request(app, http_scope('/inner'))).status}")

    async def serve_one(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/inner":
            add_task(log.append, "inner task")
        else:
            add_task(outer_in_a_thread if in_a_thread else outer)
        await send(START)
        await send(LAST)

    async def main() -> None:
        calls = [Client().request(app) for _ in range(2)]
        await asyncio.wait_for(asyncio.gather(*calls), 10)

    app = BackgroundTasksMiddleware(serve_one, max_pending=2, max_workers=2)
    asyncio.run(main())
    assert app.runtime.drain(10) == []
    assert sorted(log) == ["inner task"] * 4 + ["status 200"] * 4
    assert our_log.warnings == []


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_a_client_that_tasks_wait_for_is_not_held_back_for_ever(
    kind: str, our_log: OurLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As over the network, where nothing tells that it is a task that asks."""
    monkeypatch.setattr(in_flight, "_PATIENCE", 0.02)
    log: list[str] = []

    async def main() -> None:
        asked, answered = asyncio.Event(), asyncio.Event()

        async def outer() -> None:
            asked.set()
            await answered.wait()
            log.append("outer")

        async def serve_one(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "websocket":
                await receive()
                return
            if scope["path"] == "/inner":
                add_task(log.append, "inner")
            else:
                add_task(outer)
            await send(START)
            await send(LAST)

        app = BackgroundTasksMiddleware(serve_one, max_pending=2)
        calls = [asyncio.ensure_future(Client().request(app)) for _ in range(2)]
        await asked.wait()
        for _ in range(2):
            await Client().request(app, http_scope("/inner") | {"type": kind})
        assert "outer" not in log
        answered.set()
        await asyncio.wait(calls)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert sorted(log) == ["inner"] * (2 if kind == "http" else 0) + ["outer"] * 2
    (warning,) = our_log.warnings
    assert "max_pending is 2, and none has finished" in warning
    assert warning.count(".outer") == 2


def test_a_response_may_have_more_tasks_than_the_backlog_has_places() -> None:
    log: list[int] = []

    def view() -> None:
        for number in range(5):
            add_task(log.append, number)

    serve(BackgroundTasksMiddleware(answering(view), max_pending=2))
    assert log == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_worker": 1}, "unknown setting max_worker; accepted are max_workers"),
        ({"max_pending": -1}, "max_pending accepts a whole number from 1, not -1"),
        ({"drain_timeout": "5"}, "drain_timeout accepts a number of seconds from 0 to"),
        ({"on_error": 5}, "on_error accepts a callable, its dotted import path, or None, not 5"),
    ],
)
def test_a_wrong_setting_is_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        BackgroundTasksMiddleware(answering(lambda: None), **settings)


def test_the_scope_holds_the_response_being_made() -> None:
    kept: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        kept.append(scope[RESPONSE_KEY])
        await send(START)
        await send(LAST)

    serve(BackgroundTasksMiddleware(app))
    assert isinstance(kept[0], Response)
