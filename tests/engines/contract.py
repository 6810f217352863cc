"""What holds for every engine.

An engine's own tests have a class of their own beside this one::

    class TestContract(EngineContract):
        bench_type = DirectoryBench

`Bench` is in ``tests/engines/bench.py``. The web process is that of the test; the worker is a
process of its own, which writes down what it does.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import pytest

from bgadapters import BackgroundTasks, NotPortableError
from bgadapters.adapters import current_queue
from bgadapters.asgi import BackgroundTasksMiddleware as ASGIMiddleware
from bgadapters.engines import Ability, EngineUnavailableError
from bgadapters.stores import StoredTasks
from bgadapters.wsgi import BackgroundTasksMiddleware as WSGIMiddleware
from tests.core.memory_engine import MemoryEngine
from tests.engines import unlisted, work
from tests.engines.bench import PATIENCE, Bench, until
from tests.engines.web import Web
from tests.gateways.asgi_calls import Client, http_scope
from tests.gateways.wsgi_calls import begin, environ
from tests.our_log import OurLog
from tests.stores.process import in_child

MakeWeb = Callable[..., Web]

OPTIONS: dict[Ability, dict[str, Any]] = {
    "retries": {"retries": 2},
    "timeout": {"timeout": 10},
    "delay": {"delay": 10},
    "priority": {"priority": 1},
    "key": {"key": "one"},
}


class EngineContract:
    """Subclass it with a ``bench_type``."""

    bench_type: ClassVar[type[Bench]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Have a test with an argument ``how`` tried with each way to be away."""
        if "how" in metafunc.fixturenames:
            metafunc.parametrize("how", self.bench_type.ways)

    @pytest.fixture
    def alone(self, tmp_path: Path) -> Iterator[Bench]:
        """A broker without a worker."""
        bench = self.bench_type(tmp_path)
        yield bench
        bench.close()

    @pytest.fixture
    def make_web(self) -> Iterator[MakeWeb]:
        made: list[Web] = []

        def make(*args: Any, **given: Any) -> Web:
            made.append(Web(*args, **given))
            return made[-1]

        yield make
        for each in made:
            each.close()

    @pytest.fixture
    def web(self, shared: Bench, make_web: MakeWeb) -> Web:
        """A process that sends to the worker."""
        return make_web(shared.engine())

    def needs(self, bench: Bench, ability: Ability) -> None:
        if ability not in bench.engine().abilities:
            pytest.skip(f"it does not have {ability}")

    # What a task gets

    def test_a_function_is_called_with_its_arguments(self, web: Web, shared: Bench) -> None:
        moment = dt.datetime(2026, 3, 29, 1, 30, tzinfo=dt.UTC)
        args = (moment, Decimal("1.10"), UUID(int=7), b"\x00\xff", work.Order(1, work.Colour.RED))
        pause, rest = (
            dt.timedelta(seconds=90),
            ("Zoë 🎈", 1.5, None, {"a": [True]}, {1}, "x" * 9000),
        )
        queue = BackgroundTasks(runtime=web.runtime)
        adder = queue.options(engine="it")
        adder.add_task(work.take, *args, colour=work.Colour.RED, pause=pause, rest=rest)
        queue.release()
        task_id = web.wait_for("sent")[0].task_id
        shared.wait_for(task_id, "succeeded")
        (took,) = shared.lines(task_id, "took")
        assert took.what == str((*args, work.Colour.RED, pause, rest))
        assert took.attempt == 1
        assert web.kinds(task_id) == ["added", "sent"]

    def test_a_coroutine_function_is_awaited(self, web: Web, shared: Bench) -> None:
        task_id = web.send(work.anote, "on a loop")
        shared.wait_for(task_id, "succeeded")
        assert [line.what for line in shared.lines(task_id, "ran")] == ["on a loop"]

    def test_many_run_once_each(self, web: Web, shared: Bench) -> None:
        ids = web.add_all(*((work.note, (number,), {}) for number in range(50)))
        web.wait_for("sent", 50)
        for number, task_id in enumerate(ids):
            (ran,) = shared.wait_for(task_id, "ran")
            assert ran.what == str(number)
        assert sum(line.id in ids for line in shared.lines(kind="ran")) == 50

    def test_it_keeps_its_id_and_runs_in_what_middlewares_have_captured(
        self, web: Web, shared: Bench
    ) -> None:
        """The id that the task sees there is that of the event ``sent`` here."""
        token = work.tenant.set("acme")
        try:
            task_id = web.send(work.note)
        finally:
            work.tenant.reset(token)
        ids = {event.task_id for event in web.events("sent")}
        (ran,) = shared.wait_for(task_id, "ran")
        assert ids == {task_id}
        assert ran.tenant == "acme"
        assert [e.reason for e in web.events("sent")] == ["it was sent to 'it'"]

    def test_a_task_is_sent_before_those_of_this_process_begin(
        self, web: Web, shared: Bench
    ) -> None:
        local = {"engine": "local"}
        web.add_all((_here, (), local), (work.note, (), {}), (_here, (), local))
        web.wait_for("succeeded", 2)
        kinds = [kind for kind in web.kinds() if kind != "added"]
        assert kinds == ["sent", "started", "succeeded", "started", "succeeded"]

    def test_each_application_runs_its_own_tasks(
        self, web: Web, shared: Bench, make_web: MakeWeb
    ) -> None:
        """Two of them send to one place, and one worker has both."""
        if not shared.has_another:
            pytest.skip("its worker has one application")
        other = make_web(shared.engine(), name="other")
        ids = [each.send(work.fail) for each in (web, other, web, other)]
        kinds = ["failed", "other failed"] * 2
        for task_id, kind in zip(ids, kinds, strict=True):
            shared.wait_for(task_id, kind)
        told = [[line.kind for line in shared.lines(each) if "failed" in line.kind] for each in ids]
        assert told == [[kind] for kind in kinds]

    # What may be called

    def test_a_function_that_nobody_has_listed_is_refused(self, web: Web) -> None:
        with pytest.raises(NotPortableError, match="task_modules"):
            web.add(unlisted.reached)
        with pytest.raises(NotPortableError):
            web.add(lambda: None)
        assert web.kinds() == []

    @pytest.mark.parametrize(
        "payload",
        [
            '{"f":"tests.engines.unlisted:reached","id":"1","queue":"2","added":1.0}',
            '{"f":"os:getpid","id":"1","queue":"2","added":1.0}',
            '{"f":"tests.engines.work:no_longer_there","id":"1","queue":"2","added":1.0}',
            '{"f":"tests.engines.work:note"}',
            "[]",
            "no JSON",
        ],
        ids=["unlisted", "of Python", "gone", "half", "a list", "no JSON"],
    )
    def test_what_a_worker_refuses_has_failed(self, web: Web, shared: Bench, payload: str) -> None:
        """It is called by nobody, told of by the application, and failed for the engine."""
        before = _failed(shared)
        its_id = shared.forge(payload)
        until(lambda: _failed(shared) > before, shared.said)
        until(lambda: shared.has_failed(its_id), shared.said)
        after = web.send(work.note)  # the worker goes on
        shared.wait_for(after, "succeeded")
        assert shared.lines(kind="reached") == []
        assert _failed(shared) == before + 1
        assert not shared.has_failed(after)

    # Failures and further attempts

    def test_a_task_that_raises_has_failed(self, web: Web, shared: Bench) -> None:
        task_id = web.send(work.fail)
        (failed,) = shared.wait_for(task_id, "failed")
        assert failed.what == "ValueError"
        until(lambda: shared.has_failed(task_id), shared.said)
        assert len(shared.lines(task_id, "ran")) == 1
        assert web.kinds(task_id) == ["added", "sent"]

    def test_a_task_that_ends_its_process_so_far_as_it_can_has_failed(
        self, web: Web, shared: Bench
    ) -> None:
        """SystemExit is no way to end a worker, nor is what is no `Exception`."""
        for func in (work.leave, work.cancel):
            task_id = web.send(func)
            shared.wait_for(task_id, "failed")
            until(lambda: shared.has_failed(task_id), shared.said)  # noqa: B023  called at once
        shared.wait_for(web.send(work.note), "succeeded")

    def test_attempts(self, web: Web, shared: Bench) -> None:
        """They are counted, and end."""
        self.needs(shared, "retries")
        task_id = web.send(work.fail, retries=2, backoff=0.0)
        shared.wait_for(task_id, "failed")
        assert [line.attempt for line in shared.lines(task_id, "ran")] == [1, 2, 3]
        assert [line.attempt for line in shared.lines(task_id, "retrying")] == [1, 2]
        until(lambda: shared.has_failed(task_id), shared.said)

    def test_one_that_succeeds_in_a_later_attempt_has_not_failed(
        self, web: Web, shared: Bench
    ) -> None:
        self.needs(shared, "retries")
        task_id = web.send(work.fail, 1, retries=2, backoff=0.0)
        (done,) = shared.wait_for(task_id, "succeeded")
        assert done.attempt == 2
        assert shared.lines(task_id, "failed") == []
        assert not shared.has_failed(task_id)

    def test_a_task_that_says_when_it_is_to_be_tried_again(self, web: Web, shared: Bench) -> None:
        self.needs(shared, "retries")
        task_id = web.send(work.ask_for_more, 1.5, retries=1)
        first, second = shared.wait_for(task_id, "ran", 2)
        assert second.at - first.at >= 1.5
        shared.wait_for(task_id, "succeeded")

    def test_a_task_that_has_failed_for_good(self, web: Web, shared: Bench) -> None:
        self.needs(shared, "retries")
        task_id = web.send(work.fail_for_good, retries=5, backoff=0.0)
        (failed,) = shared.wait_for(task_id, "failed")
        assert (failed.what, failed.attempt) == ("NoRetry", 1)
        until(lambda: shared.has_failed(task_id), shared.said)

    # Options

    @pytest.mark.parametrize("ability", OPTIONS)
    def test_an_option_that_it_lacks_is_refused(
        self, alone: Bench, make_web: MakeWeb, ability: Ability
    ) -> None:
        engine = alone.engine()
        if ability in engine.abilities:
            pytest.skip("it has it")
        web = make_web(engine)
        with pytest.raises(TypeError, match=f"{type(engine).__name__} has no {ability}"):
            web.add(work.note, **OPTIONS[ability])
        assert web.kinds() == []
        assert alone.waiting() == 0

    def test_a_task_with_a_delay_does_not_start_before(self, web: Web, shared: Bench) -> None:
        self.needs(shared, "delay")
        before = time.time()
        task_id = web.send(work.note, delay=2.0)
        (ran,) = shared.wait_for(task_id, "ran")
        assert ran.at >= before + 2.0
        shared.wait_for(task_id, "succeeded")

    def test_a_task_with_a_time_does_not_start_before(self, web: Web, shared: Bench) -> None:
        self.needs(shared, "delay")
        zone = dt.timezone(dt.timedelta(hours=-5))
        due = dt.datetime.now(zone) + dt.timedelta(seconds=2)
        task_id = web.send(work.note, run_after=due)
        (ran,) = shared.wait_for(task_id, "ran")
        assert ran.at >= due.timestamp()
        past = web.send(work.note, run_after=due - dt.timedelta(days=1))
        shared.wait_for(past, "succeeded")

    def test_the_higher_priority_goes_first(self, alone: Bench, make_web: MakeWeb) -> None:
        self.needs(alone, "priority")
        web = make_web(alone.engine())
        ids = [web.send(work.note, priority=each) for each in (0, -100, 50, 1, 100)]
        with alone.worker():
            for task_id in ids:
                alone.wait_for(task_id, "succeeded")
        order = [ids.index(line.id) for line in alone.lines(kind="ran")]
        assert order == [4, 2, 3, 0, 1]

    def test_a_coroutine_that_takes_too_long_is_broken_off(self, web: Web, shared: Bench) -> None:
        self.needs(shared, "timeout")
        task_id = web.send(work.take_long, timeout=0.5)
        (failed,) = shared.wait_for(task_id, "failed")
        assert failed.what == "TimeoutError"
        until(lambda: shared.has_failed(task_id), shared.said)

    def test_of_those_that_wait_with_one_key_one_counts(
        self, alone: Bench, make_web: MakeWeb
    ) -> None:
        self.needs(alone, "key")
        web = make_web(alone.engine())
        for _ in range(3):
            web.add(work.note, "one", key="k", on_duplicate="keep")
        web.add(work.note, "other", key="l", on_duplicate="keep")
        last = web.add(work.note, "last")
        until(lambda: len(web.events("sent", "replaced")) == 5)
        with alone.worker():
            alone.wait_for(last, "succeeded")
            until(lambda: not alone.waiting(), alone.said)
        assert sorted(line.what for line in alone.lines(kind="ran")) == ["last", "one", "other"]

    # An engine's own objects

    def test_a_task_object_of_its_own_is_sent_as_itself(self, web: Web, shared: Bench) -> None:
        if shared.own is None:
            pytest.skip("it has no task objects")
        before = len(shared.lines(kind="own"))
        web.send(shared.own, "argument")
        until(lambda: len(shared.lines(kind="own")) > before, shared.said)
        assert shared.lines(kind="own")[-1].what == "argument"

    # A broker that is away

    def test_it_says_in_time_that_its_broker_is_away(self, alone: Bench, how: str) -> None:
        with alone.away(how, timeout=1.0) as away:
            web = Web(away.engine)
            began = time.monotonic()
            message = _message(web)
            with pytest.raises(EngineUnavailableError):
                away.engine.send(message)
            with pytest.raises(EngineUnavailableError):
                asyncio.run(away.engine.asend(message))
            assert time.monotonic() - began < 2 * 1.0 + 5.0, "it has waited for more than that"
            away.end()
            web.close()

    def test_it_is_tried_again_until_its_broker_is_back(
        self, alone: Bench, make_web: MakeWeb, how: str
    ) -> None:
        with alone.away(how, timeout=0.5, patience=PATIENCE) as away:
            web = make_web(away.engine, drain_timeout=PATIENCE)
            web.add(work.note)
            retrying = web.wait_for("retrying")
            assert isinstance(retrying[0].exception, EngineUnavailableError)
            assert alone.waiting() == 0
            away.end()
            web.wait_for("sent")
            assert alone.waiting() == 1
            away.engine.close()

    def test_it_is_tried_for_so_long_and_then_has_failed(
        self, alone: Bench, make_web: MakeWeb, how: str, our_log: OurLog
    ) -> None:
        with alone.away(how, timeout=0.3, patience=0.0) as away:
            web = make_web(away.engine)
            ids = [web.add(work.note, "a secret"), web.add(work.note)]
            failed = web.wait_for("failed", 2)
            assert sorted(event.task_id for event in failed) == sorted(ids)
            assert len(web.events("engine_down")) == 1, "that is told once"
            said = "\n".join(our_log.messages)
            assert all(task_id in said for task_id in ids)
            assert "a secret" not in said
            away.end()
            _send_when_it_may_be_tried(web)
            assert len(web.events("engine_back")) == 1
            away.engine.close()

    def test_others_get_its_tasks(self, alone: Bench, make_web: MakeWeb, how: str) -> None:
        given: Any = {"timeout": 0.3, "patience": 0.0}
        with alone.away(how, failover=["other"], **given) as away:
            other = MemoryEngine()
            web = make_web(away.engine, engines={"other": other})
            ids = [web.add(work.note) for _ in range(3)]
            web.wait_for("sent", 3)
            assert sorted(each.id for each in other.messages) == sorted(ids)
            assert len(web.events("engine_down")) == 1
            away.end()
        with alone.away(how, failover=["local"], **given) as away:
            web = make_web(away.engine)
            ids = [web.add(work.nothing) for _ in range(3)]
            done = web.wait_for("succeeded", 3)
            assert sorted(event.task_id for event in done) == sorted(ids)
            away.end()
        assert alone.waiting() == 0

    # Before the response

    def test_it_has_a_task_before_the_first_byte(self, alone: Bench) -> None:
        engine = alone.engine()
        if not engine.acknowledges:
            pytest.skip("it does not acknowledge")
        assert _over_wsgi(alone, engine) == ("200 OK", 1)
        assert _over_asgi(alone, engine) == (200, 2)
        engine.close()

    def test_a_response_that_cannot_be_sure_of_it_is_no_success(
        self, alone: Bench, how: str
    ) -> None:
        if not alone.engine().acknowledges:
            pytest.skip("it does not acknowledge")
        with alone.away(how, timeout=0.3) as away:
            status, _ = _over_wsgi(alone, away.engine)
            assert status.startswith("503")
            status_of_asgi, _ = _over_asgi(alone, away.engine)
            assert status_of_asgi == 503
            away.engine.close()
            away.end()
        assert alone.waiting() == 0

    def test_what_does_not_acknowledge_is_not_asked_to(
        self, alone: Bench, make_web: MakeWeb
    ) -> None:
        engine = alone.engine()
        if engine.acknowledges:
            pytest.skip("it does")
        with pytest.raises(TypeError, match="survive"):
            make_web(engine).add(work.note, send="before_response")

    # The outbox

    def test_a_durable_task_is_in_the_store_until_it_was_sent(
        self, alone: Bench, make_web: MakeWeb, how: str
    ) -> None:
        url = f"sqlite:///{alone.directory}/outbox.db"
        with alone.away(how, timeout=0.5, patience=PATIENCE) as away:
            web = make_web(away.engine, store=url)
            task_id = web.add(work.note, durable=True)
            web.wait_for("retrying")
            stored = StoredTasks(url)
            assert [each.id for each in stored.list()] == [task_id]
            away.end()
            web.wait_for("sent")
            until(lambda: stored.count() == {"waiting": 0, "failed": 0})
            assert alone.waiting() == 1
            away.engine.close()

    def test_what_cannot_be_sent_for_long_stays_in_the_store(
        self, alone: Bench, make_web: MakeWeb, how: str
    ) -> None:
        url = f"sqlite:///{alone.directory}/outbox.db"
        with alone.away(how, timeout=0.3, patience=0.0) as away:
            web = make_web(away.engine, store=url)
            task_id = web.add(work.note, durable=True)
            (left,) = web.wait_for("abandoned")
            assert left.task_id == task_id
            assert StoredTasks(url).count() == {"waiting": 1, "failed": 0}
            away.end()

    # Processes

    def test_a_forked_child_sends_by_itself(self, shared: Bench, make_web: MakeWeb) -> None:
        web = make_web(shared.engine())
        before = web.send(work.note, "before")

        def send() -> None:
            web.send(work.note, "in the child")
            assert web.runtime.drain(PATIENCE) == []

        in_child(send)
        after = web.send(work.note, "after")
        shared.wait_for(before, "succeeded")
        shared.wait_for(after, "succeeded")
        until(lambda: "in the child" in [line.what for line in shared.lines(kind="ran")])

    def test_it_may_be_closed_more_than_once(self, alone: Bench, make_web: MakeWeb) -> None:
        engine = alone.engine()
        engine.close()
        make_web(engine).send(work.note)
        engine.close()
        engine.close()
        assert alone.waiting() == 1

    def test_threads_send_at_one_time(self, alone: Bench, make_web: MakeWeb) -> None:
        web = make_web(alone.engine())
        threads = [
            threading.Thread(target=lambda: [web.add(work.note) for _ in range(10)])
            for _ in range(8)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        web.wait_for("sent", 80)
        assert alone.waiting() == 80


def _here() -> None:
    """Run in the process of the test."""


def _message(web: Web) -> Any:
    """Make the message of a task, as an engine gets it."""
    other = MemoryEngine()
    sender = Web(other)
    sender.send(work.note)
    sender.close()
    return other.messages[0]


def _send_when_it_may_be_tried(web: Web) -> None:
    """Send until the engine is asked again, which it is not for a moment after it has failed."""

    def sends() -> bool:
        before = len(web.events("sent", "failed"))
        web.add(work.note)
        until(lambda: len(web.events("sent", "failed")) > before)
        return bool(web.events("sent"))

    until(sends)


def _over_wsgi(bench: Bench, engine: Any) -> tuple[str, int]:
    """Return the status of a response, and how many tasks the broker had at its first byte."""

    def app(_: Any, start_response: Any) -> list[bytes]:
        current_queue().options(engine="it", send="before_response").add_task(work.note)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"x"]

    middleware = WSGIMiddleware(app, **work.settings(engines={"it": engine}))
    exchange = begin(middleware, environ())
    next(iter(exchange.body))
    found = bench.waiting()
    exchange.close()
    assert middleware.runtime.drain(PATIENCE) == []
    return exchange.status, found


def _over_asgi(bench: Bench, engine: Any) -> tuple[int, int]:
    """Do as `_over_wsgi`."""

    async def app(_: Any, __: Any, send: Any) -> None:
        current_queue().options(engine="it", send="before_response").add_task(work.note)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    found: list[tuple[int, int]] = []

    def on_send(message: Any) -> None:
        if message["type"] == "http.response.start":
            found.append((message["status"], bench.waiting()))

    middleware = ASGIMiddleware(app, **work.settings(engines={"it": engine}))
    client = Client(on_send=on_send)

    async def main() -> None:
        await asyncio.wait_for(middleware(http_scope(), client.receive, client.send), PATIENCE)
        assert await middleware.runtime.adrain(PATIENCE) == []

    asyncio.run(main())
    return found[0]


def _failed(shared: Bench) -> int:
    """How many tasks have failed, of whatever application: nobody knows whose a forged one is."""
    return len(shared.lines(kind="failed")) + len(shared.lines(kind="other failed"))
