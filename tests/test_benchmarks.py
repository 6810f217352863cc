"""What the benchmarks' figures rest on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from benchmarks import kept
from benchmarks.bars import (
    BYTES,
    DURABLE,
    GROWTH,
    IMPORT,
    OVERHEAD,
    REQUEST,
    UNUSED,
    WSGI,
    Bar,
    all_bars,
    reason_for,
    table,
)
from benchmarks.load import Client, Load
from benchmarks.measure import Samples, interleave, percentile, steady, steady_rounds
from benchmarks.reasons import REASONS
from benchmarks.results import Topic
from benchmarks.way import HOSTS, Call, Way, middle, trace
from benchmarks.work import LostTasksError, Tally

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_the_cases_of_a_round_take_turns_to_be_first() -> None:
    log: list[str] = []

    def case(name: str) -> Callable[[], float]:
        def measure() -> float:
            log.append(name)
            return float(len(log))

        return measure

    found = interleave({"a": case("a"), "b": case("b")}, rounds=2)
    assert log == ["a", "b", "a", "b", "b", "a"]
    assert found == {"a": Samples((3.0, 6.0)), "b": Samples((4.0, 5.0))}


def test_ratios_are_formed_within_a_round() -> None:
    """A round that was slow for both says as much about them as the others."""
    mine, theirs = Samples((1.0, 10.0, 2.0)), Samples((2.0, 20.0, 4.0))
    assert mine.per(theirs) == Samples((0.5, 0.5, 0.5))
    assert mine.per(Samples(theirs.values[:2])) == Samples((0.5, 0.5))  # measured in fewer rounds


def test_what_interferes_with_some_of_many_measurements_does_not_count() -> None:
    taken = iter([9.0, 1.0, 1.0, 50.0, 80.0, 1.0])  # the first is to warm up
    assert steady({"a": lambda: next(taken)}, times=5) == {"a": 1.0}
    each = iter([0.0, 1.0, 2.0, 0.0, 3.0, 4.0])
    rounds = steady_rounds({"a": lambda: next(each)}, rounds=2, times=2)
    assert rounds == {"a": Samples((1.25, 3.25))}


def test_the_spread_is_the_middle_half() -> None:
    assert Samples((1.0, 2.0, 3.0, 4.0, 100.0)).quartiles == (2.0, 4.0)
    assert Samples((7.0,)).quartiles == (7.0, 7.0)


@pytest.mark.parametrize(("percent", "value"), [(0, 1.0), (50, 3.0), (99, 4.0), (100, 4.0)])
def test_percentiles(percent: float, value: float) -> None:
    assert percentile([4.0, 3.0, 2.0, 1.0], percent) == value


@pytest.mark.parametrize("ran", [0, 1, 3])
def test_a_task_that_is_lost_or_runs_twice_is_noticed(ran: int) -> None:
    tally = Tally()
    tally.expect(2)
    for _ in range(ran):
        tally.note()
    with pytest.raises(LostTasksError, match=f"{ran} tasks ran of 2"):
        tally.check()


@pytest.mark.parametrize(
    ("ratio", "is_floor", "is_met"), [(2.0, False, True), (3.0, False, False), (1.0, True, False)]
)
def test_a_bar_has_a_right_side_and_a_margin(ratio: float, is_floor: bool, is_met: bool) -> None:
    bar = Bar("bytes", "", 2.0, is_floor)
    assert bar.is_met(ratio) is is_met
    assert bar.is_met(ratio, margin=2.0)


def test_the_table_of_bars_says_why_one_was_missed() -> None:
    ratios = {"asyncio/async/10": Samples((3.0,)), "A on B/p99": Samples((1.1,))}
    rows = table(ratios, {"asyncio/async/*": "a reason"}).rows
    assert [row[3:] for row in rows] == [("missed by 1.50x", "a reason"), ("met", "")]
    assert len(all_bars(ratios)) == 2


def test_what_is_said_of_a_bar_itself_goes_before_what_is_said_of_many() -> None:
    reasons = {"A on B/*": "of two", "*": "of all", "A on B/p99": "its own"}
    assert reason_for("A on B/p99", reasons) == "its own"
    assert reason_for("A on B/nothing", reasons) == "of two"
    assert reason_for("import", reasons) == "of all"
    assert reason_for("import", {"A on *": "of others"}) == ""


def test_each_reason_is_of_a_bar() -> None:
    """A pattern that fits none any more would leave its bar without a reason."""
    named = [
        bar.key for bar in (*OVERHEAD, REQUEST, *UNUSED, *WSGI, *DURABLE, BYTES, IMPORT, *GROWTH)
    ]
    made = [
        *(
            f"{host}/{what}"
            for host in ("FastAPI on A", "Flask on B", "Django on C")
            for what in ("nothing", "anothing", "p99")
        ),
        *(
            "beside/A beside 12 a second that compute",
            *(
                f"beside/A beside 30 a second, and 1,000 that sleep, of that under {way}"
                for way in ("Flask-Executor", "FastAPI's BackgroundTasks")
            ),
            "engines/Huey, SQLite, FastAPI on uvicorn/p99",
            "engines/Processes, FastAPI on uvicorn/p99",
        ),
    ]
    assert not [
        pattern for pattern in REASONS if not any(fnmatchcase(key, pattern) for key in named + made)
    ]


@pytest.mark.parametrize(("ratio", "is_worse"), [(2.9, False), (3.1, True)])
def test_a_bar_that_is_missed_can_become_worse_yet(ratio: float, is_worse: bool) -> None:
    assert Bar("bytes", "", 1.0, margin=2.0, reached=1.5).has_become_worse(ratio) is is_worse
    assert Bar("bytes", "", 1.5, margin=2.0).has_become_worse(ratio) is is_worse


def test_another_view_beside_tasks_that_compute_has_a_bar() -> None:
    ratios = {"beside/beside 12 tasks": Samples((0.1,)), "beside/beside 30 tasks": Samples((0.4,))}
    rows = table(ratios, {"beside/*": "a reason"}).rows
    assert [row[0] for row in rows] == [
        "p99 of another view beside 12 tasks",
        "p99 of another view beside 30 tasks",
    ]
    assert [row[3:] for row in rows] == [("met", ""), ("missed by 2.00x", "a reason")]


def test_what_a_run_has_measured_is_there_until_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "run")
    topic = Topic("a topic", "", ratios={"import": Samples((0.3, 0.4))}, seconds=2.0)
    assert kept.kept("startup") is None
    kept.keep("startup", topic)
    assert kept.kept("startup") == topic
    kept.forget()
    assert kept.kept("startup") is None


def test_an_open_loop_waits_for_no_response_and_counts_from_when_each_was_due() -> None:
    requests, rate = 8, 100.0
    all_there = asyncio.Event()

    async def answer(number: int) -> None:
        if number == requests:
            all_there.set()
        await all_there.wait()  # a closed loop of fewer connections would never get here

    load = loaded(answer, lambda client: client.open("/", rate, requests))
    assert (len(load.latencies), load.errors) == (requests, 0)
    # All were answered together, so the first to be due has waited for the longest.
    assert max(load.latencies) - min(load.latencies) > (requests - 1) / rate / 2


def test_a_closed_loop_has_as_many_requests_under_way_as_connections() -> None:
    under_way: list[int] = []
    most = 0

    async def answer(number: int) -> None:
        nonlocal most
        under_way.append(number)
        most = max(most, len(under_way))
        await asyncio.sleep(0)
        under_way.remove(number)

    load = loaded(answer, lambda client: client.closed("/", 3, lambda sent: sent >= 30))
    assert (len(load.latencies), load.errors) == (30, 0)
    assert 1 <= most <= 3


def test_what_is_not_answered_is_an_error() -> None:
    async def answer(_: int) -> None:
        raise ConnectionAbortedError

    load = loaded(answer, lambda client: client.closed("/", 1, lambda sent: sent >= 2))
    assert (load.latencies, load.errors) == ([], 2)


def way(*modules: str) -> Way:
    return Way([Call("a thread", module, "function") for module in modules])


def test_a_way_that_comes_back_to_a_module_changes_more_often_than_it_has_modules() -> None:
    assert (way("a", "a", "b").changes, way("a", "a", "b").modules) == (1, 2)
    assert (way("a", "b", "a").changes, way("a", "b", "a").modules) == (2, 2)


def test_the_middle_way_is_that_of_one_request() -> None:
    ways = [way("a", "b", "a"), way("a"), way("a", "b"), way("a", "a"), way("a")]
    assert middle(ways) is ways[3]


def test_a_list_shows_where_the_module_and_the_thread_change() -> None:
    calls = [Call("one", "a", "f"), Call("one", "a", "g"), Call("two", "b", "h")]
    assert Way(calls).listed().splitlines() == [
        "   1 > a  f  [one]",
        "   2   a  g",
        "   3 > b  h  [two]",
    ]


@pytest.mark.host
def test_a_way_goes_from_the_server_s_thread_to_the_loop() -> None:
    flask = next(host for host in HOSTS if host.name.startswith("Flask"))
    calls = trace(flask).calls
    assert (calls[0].module, calls[0].function.split(".")[-1]) == ("wsgi.middleware", "__call__")
    assert len({call.thread for call in calls}) == 2


def loaded(
    answer: Callable[[int], Coroutine[Any, Any, None]],
    put: Callable[[Client], Coroutine[Any, Any, Load]],
) -> Load:
    """Put load on a server that calls ``answer`` with each request's number before it responds."""
    numbers = iter(range(1, 1000))

    over: list[asyncio.Event] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        over.append(asyncio.Event())
        is_over = over[-1]
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await answer(next(numbers))
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
        finally:
            is_over.set()

    async def main() -> Load:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            load = await put(Client(server.sockets[0].getsockname()[1]))
            for each in over:
                await each.wait()
            return load

    return asyncio.run(main())
