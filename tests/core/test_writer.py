"""The thread that uses a store: in which order, how much at a time, and what fails."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest

from bgadapters import SettingsError, StoreUnavailableError
from bgadapters.adapters import Change, Row
from bgadapters.core import host
from bgadapters.core.outbox import writer as writer_module
from bgadapters.core.outbox.receipt import Receipt
from bgadapters.core.outbox.writer import Writer
from tests.core.memory_store import MemoryStore
from tests.core.ways import PATIENCE, reached

AWAY = StoreUnavailableError("it is away")


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def writer(store: MemoryStore) -> Iterator[Writer]:
    writer = Writer(store)
    yield writer
    store.on_call = lambda name: None
    if writer.is_used:
        writer.close().wait_at_most(PATIENCE)


def row(name: str) -> Row:
    return Row(name, "queue", 0, 0.0, "{}", name)


def gate(store: MemoryStore, method: str) -> tuple[threading.Event, threading.Event]:
    """Have a method of the store wait; return what tells that it has begun, and what ends that."""
    begun, goes_on = threading.Event(), threading.Event()

    def on_call(name: str) -> None:
        if name == method:
            begun.set()
            reached(goes_on)

    store.on_call = on_call
    return begun, goes_on


def fails(store: MemoryStore, *methods: str, error: BaseException = AWAY) -> None:
    def on_call(name: str) -> None:
        if name in methods:
            raise error

    store.on_call = on_call


def test_nothing_is_opened_before_something_is_asked(store: MemoryStore, writer: Writer) -> None:
    assert (store.calls, writer.is_used) == ([], False)


def test_the_store_is_opened_once_and_first(store: MemoryStore, writer: Writer) -> None:
    writer.write([row("a")]).wait()
    writer.write([row("b")]).wait()
    assert store.calls == ["open", ("write", ["a"], []), ("write", ["b"], [])]
    assert store.threads == {"bgadapters-store"}
    assert store.database.ids() == ["a", "b"]


def test_what_comes_during_a_write_shares_the_next_one(store: MemoryStore, writer: Writer) -> None:
    begun, goes_on = gate(store, "write")
    receipts = [writer.write([row("a")])]
    reached(begun)
    receipts += [writer.write([row("b"), row("c")]), writer.write([row("d")])]
    writer.change(Change("a", "delete"))
    goes_on.set()
    for receipt in receipts:
        receipt.wait()
    assert store.calls[1:] == [("write", ["a"], []), ("write", ["b", "c", "d"], [])]
    writer.flush().wait()  # nobody has waited for what was changed
    assert store.calls[3:] == [("write", [], ["delete"])]


def test_the_order_is_that_of_asking(store: MemoryStore, writer: Writer) -> None:
    """A task that was added by another one is kept before that one is deleted."""
    begun, goes_on = gate(store, "open")
    writer.flush()
    reached(begun)
    writer.write([row("parent")])
    writer.change(Change("parent", "claim"))
    done = writer.call(lambda: store.begin("parent"))
    child = writer.write([row("child")])
    writer.change(Change("parent", "delete"))
    goes_on.set()
    done.wait()
    child.wait()
    writer.flush().wait()
    assert store.calls == [
        "open",
        ("write", ["parent"], []),
        ("write", [], ["claim"]),
        "begin",
        ("write", ["child"], []),
        ("write", [], ["delete"]),
    ]


def test_changes_wait_for_others(store: MemoryStore, writer: Writer) -> None:
    with mock.patch.object(writer_module, "_LAZY", PATIENCE):
        for name in "ab":
            writer.change(Change(name, "delete"))
        writer.flush().wait()
    assert store.calls == ["open", ("write", [], ["delete", "delete"])]


def test_changes_are_written_though_nothing_else_comes(store: MemoryStore, writer: Writer) -> None:
    begun, goes_on = gate(store, "write")
    with mock.patch.object(writer_module, "_LAZY", 0.0):
        writer.change(Change("a", "delete"))
        reached(begun)
    goes_on.set()


@pytest.fixture
def in_thread() -> Iterator[Callable[..., Future[Any]]]:
    """Calls a function in a thread that may block."""
    with ThreadPoolExecutor(thread_name_prefix="waits") as pool:
        yield pool.submit


def write_and_wait(writer: Writer, name: str) -> None:
    writer.write([row(name)], waits=True).wait()


def test_who_waits_writes_and_leaves_the_rest(
    store: MemoryStore, writer: Writer, in_thread: Callable[..., Future[Any]]
) -> None:
    store.is_for_any_thread = True
    in_thread(write_and_wait, writer, "a").result(PATIENCE)
    assert store.threads == {"bgadapters-store"}  # which opens it first
    store.threads.clear()
    with mock.patch.object(writer_module, "_LAZY", PATIENCE):
        writer.change(Change("a", "delete"))
        in_thread(write_and_wait, writer, "b").result(PATIENCE)
        assert store.threads == {"waits_0"}
        writer.flush().wait()
    assert store.calls[2:] == [("write", ["b"], []), ("write", [], ["delete"])]
    assert store.database.ids() == ["b"]


def test_the_main_thread_does_not_do_it(store: MemoryStore, writer: Writer) -> None:
    """A signal handler may raise there, in the middle of a transaction."""
    store.is_for_any_thread = True
    write_and_wait(writer, "a")
    write_and_wait(writer, "b")
    assert store.threads == {"bgadapters-store"}


def test_a_store_has_one_thread_if_it_does_not_say_more(
    store: MemoryStore, writer: Writer, in_thread: Callable[..., Future[Any]]
) -> None:
    write_and_wait(writer, "a")
    in_thread(write_and_wait, writer, "b").result(PATIENCE)
    assert store.threads == {"bgadapters-store"}


def test_who_comes_while_another_one_does_it_waits_for_the_thread(
    store: MemoryStore, writer: Writer, in_thread: Callable[..., Future[Any]]
) -> None:
    store.is_for_any_thread = True
    writer.flush().wait()
    begun, goes_on = gate(store, "write")
    first = in_thread(write_and_wait, writer, "a")
    reached(begun)
    store.threads.clear()
    second = in_thread(lambda: writer.write([row("b")], waits=True)).result(PATIENCE)
    third = writer.write([row("c")])
    goes_on.set()
    first.result(PATIENCE)
    second.wait()
    third.wait()
    assert store.calls == ["open", ("write", ["a"], []), ("write", ["b", "c"], [])]
    assert store.threads == {"bgadapters-store"}


def test_who_comes_after_others_waits_with_them(
    store: MemoryStore, writer: Writer, in_thread: Callable[..., Future[Any]]
) -> None:
    store.is_for_any_thread = True
    writer.flush().wait()
    with mock.patch.object(writer, "_tell_news"):  # the thread has not begun
        first = writer.write([row("a")])
        second = in_thread(lambda: writer.write([row("b")], waits=True)).result(PATIENCE)
        assert store.calls == ["open"]
    writer.flush().wait()
    first.wait()
    second.wait()
    assert store.calls == ["open", ("write", ["a", "b"], [])]


def test_what_cannot_be_written_is_told_to_who_has_tried(
    store: MemoryStore, writer: Writer, in_thread: Callable[..., Future[Any]]
) -> None:
    store.is_for_any_thread = True
    writer.flush().wait()
    fails(store, "write")
    with pytest.raises(StoreUnavailableError, match="it is away"):
        in_thread(write_and_wait, writer, "a").result(PATIENCE)
    fails(store)
    in_thread(write_and_wait, writer, "b").result(PATIENCE)
    assert store.database.ids() == ["b"]
    assert store.threads == {"bgadapters-store", "waits_0"}


def test_who_waits_writes_nothing_after_the_end(
    store: MemoryStore, writer: Writer, in_thread: Callable[..., Future[Any]]
) -> None:
    store.is_for_any_thread = True
    in_thread(write_and_wait, writer, "a").result(PATIENCE)
    writer.close().wait()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        in_thread(write_and_wait, writer, "b").result(PATIENCE)
    assert store.calls == ["open", ("write", ["a"], []), "close"]


def test_what_cannot_be_opened_is_tried_again(store: MemoryStore, writer: Writer) -> None:
    fails(store, "open", error=OSError("no such file"))
    with pytest.raises(StoreUnavailableError, match="no such file"):
        writer.write([row("a")]).wait()
    fails(store, "open", error=SettingsError("of a newer version"))
    with pytest.raises(SettingsError, match="of a newer version"):
        writer.call(lambda: None).wait()
    fails(store)
    writer.write([row("b")]).wait()
    assert store.database.ids() == ["b"]


def test_of_those_that_fail_together_each_has_its_own_error(
    store: MemoryStore, writer: Writer
) -> None:
    begun, goes_on = gate(store, "open")
    receipts = [writer.write([row("a")])]
    reached(begun)
    goes_on.set()
    receipts[0].wait()
    begun, goes_on = gate(store, "begin")
    writer.call(lambda: store.begin("a"))
    reached(begun)
    receipts = [writer.write([row("b")]), writer.write([row("c")])]
    fails(store, "write")
    goes_on.set()
    errors = []
    for receipt in receipts:
        with pytest.raises(StoreUnavailableError, match="it is away") as raised:
            receipt.wait()
        errors.append(raised.value)
    assert errors[0] is not errors[1]
    assert store.calls.count(("write", ["b", "c"], [])) == 1


def test_one_that_is_wrong_is_no_harm_to_others(
    store: MemoryStore, writer: Writer, caplog: pytest.LogCaptureFixture
) -> None:
    begun, goes_on = gate(store, "open")
    writer.flush()
    reached(begun)
    receipts = {name: writer.write([row(name)]) for name in ("a", "wrong", "b")}
    writer.change(Change("a", "delete"))
    writer.change(Change("b", "fail"))

    def on_call(name: str) -> None:
        if name == "write" and ("wrong" in store.calls[-1][1] or "fail" in store.calls[-1][2]):
            raise ValueError("a NUL")

    store.on_call = on_call
    goes_on.set()
    receipts["a"].wait()
    receipts["b"].wait()
    with pytest.raises(StoreUnavailableError, match="a NUL"):
        receipts["wrong"].wait()
    writer.flush().wait()
    assert store.database.ids() == ["b"]
    assert "What has become of a durable task cannot be written" in caplog.text


def test_changes_are_tried_again_and_told_once(
    store: MemoryStore, writer: Writer, warned: Callable[[], list[str]]
) -> None:
    writer.write([row("a"), row("b")]).wait()
    fails(store, "write")
    with mock.patch.object(writer_module, "_PATIENCE", 0.0):
        tried = [threading.Event() for _ in range(3)]
        left = list(tried)

        def on_call(name: str) -> None:
            if name == "write" and left:
                left.pop(0).set()
                raise AWAY

        store.on_call = on_call
        for name in "ab":
            writer.change(Change(name, "delete"))
        for each in tried:
            reached(each)
    writer.flush().wait()
    assert store.database.ids() == []
    assert [each.partition(": ")[2] for each in warned()] == ["StoreUnavailableError: it is away"]
    fails(store, "write")  # it has gone well in between: it is told once more
    writer.change(Change("a", "delete"))
    writer.flush().wait()
    assert len(warned()) == 2


def test_what_was_lost_is_named(
    store: MemoryStore, writer: Writer, warned: Callable[[], list[str]]
) -> None:
    writer.write([row("a")]).wait()
    store.database.kept["a"].owner = "another"
    writer.change(Change("a", "delete"))
    writer.flush().wait()
    (said,) = warned()
    assert "taken over by another process" in said
    assert said.endswith(": a")


def test_a_call_that_raises_stops_nothing(store: MemoryStore, writer: Writer) -> None:
    with pytest.raises(StoreUnavailableError, match="SystemExit") as raised:
        writer.call(lambda: exec("raise SystemExit")).wait()
    assert isinstance(raised.value.__cause__, SystemExit)
    writer.write([row("a")]).wait()


def test_after_the_end_everything_is_refused(
    store: MemoryStore, writer: Writer, warned: Callable[[], list[str]]
) -> None:
    begun, goes_on = gate(store, "open")
    writer.flush()
    reached(begun)
    writer.write([row("a")])
    closed = writer.close()
    late = writer.write([row("late")])
    writer.change(Change("a", "delete"))
    goes_on.set()
    closed.wait()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        late.wait()
    with pytest.raises(StoreUnavailableError, match="was closed"):
        writer.flush().wait()
    writer.change(Change("b", "delete"))
    writer.flush().wait_at_most(PATIENCE)
    assert store.calls == ["open", ("write", ["a"], []), "close"]
    assert ["a" if "ids: a" in said else "b" for said in warned()] == ["a", "b"]


def test_after_the_end_no_thread_is_started(
    writer: Writer, warned: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the interpreter ends it would never begin, and who starts it waits for that."""
    ended = threading.Event()
    monkeypatch.setattr(host, "start_real_thread", _started_and_told(ended))
    writer.close().wait()
    reached(ended)
    monkeypatch.setattr(host, "start_real_thread", mock.Mock(side_effect=AssertionError))
    writer.change(Change("a", "delete"))
    assert ["ids: a" in said for said in warned()] == [True]
    with pytest.raises(StoreUnavailableError, match="was closed"):
        writer.flush().wait()


def _started_and_told(ended: threading.Event) -> Callable[[Callable[[], None], str], None]:
    start = host.start_real_thread

    def start_and_tell(run: Callable[[], None], name: str) -> None:
        def run_and_tell() -> None:
            run()
            ended.set()

        start(run_and_tell, name)

    return start_and_tell


def test_a_store_that_was_never_opened_is_not_closed(store: MemoryStore, writer: Writer) -> None:
    writer.close().wait()
    assert store.calls == []


def test_where_no_thread_can_be_had_nothing_is_kept(
    store: MemoryStore, writer: Writer, warned: Callable[[], list[str]]
) -> None:
    no_thread = mock.patch.object(
        host, "start_real_thread", side_effect=RuntimeError("can't start new thread")
    )
    with no_thread:
        writer.change(Change("a", "delete"))
        with pytest.raises(StoreUnavailableError, match="can't start new thread"):
            writer.write([row("a")]).wait()
    assert "Their ids: a" in warned()[0]
    writer.write([row("b")]).wait()
    assert store.database.ids() == ["b"]


def test_a_receipt_tells_whoever_asks_when() -> None:
    heard: list[Any] = []
    receipt = Receipt()
    receipt.tell(heard.append)
    receipt.resolve(AWAY)
    receipt.tell(heard.append)
    assert heard == [AWAY, AWAY]
    done = Receipt()
    done.resolve()
    done.tell(heard.append)
    done.wait()
    done.wait_at_most(0.0)
    assert heard == [AWAY, AWAY]


def test_waiting_for_a_receipt_has_an_end() -> None:
    Receipt().wait_at_most(0.0)


def test_who_is_told_stops_nobody(errors: Callable[[], list[str]]) -> None:
    heard: list[str] = []
    receipt = Receipt()

    def fail() -> None:
        raise ValueError

    receipt.is_done(fail)
    receipt.is_done(lambda: heard.append("told"))
    receipt.resolve()
    assert heard == ["told"]
    assert errors() == ["Telling that a durable task is kept failed"]


def test_a_loop_is_not_blocked(store: MemoryStore, writer: Writer) -> None:
    begun, goes_on = gate(store, "write")

    async def main() -> None:
        waits = asyncio.create_task(writer.write([row("a")]).received())
        while not begun.is_set():  # the loop goes on meanwhile
            await asyncio.sleep(0)
        assert not waits.done()
        goes_on.set()
        await asyncio.wait_for(waits, PATIENCE)

    asyncio.run(main())


def test_without_asyncio_it_is_an_error() -> None:
    steps: Any = Receipt().received()
    with pytest.raises(StoreUnavailableError, match="trio is not supported"):
        steps.send(None)
