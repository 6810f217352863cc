"""What Celery is told of a task, and what is refused; without a server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, chain, shared_task, signals
from celery.contrib.testing.worker import start_worker
from celery.exceptions import QueueNotFound, Reject

from bgadapters import NotPortableError
from bgadapters.adapters import Call, parse_settings
from bgadapters.engines import RetryLater
from bgadapters.engines.celery import CeleryEngine
from bgadapters.engines.celery.worker import NAME, Worker
from tests.engines import work
from tests.engines.web import Web
from tests.our_log import OurLog

AMQP, REDIS = "amqp://guest:guest@127.0.0.1:1//", "redis://127.0.0.1:1/0"

of_a_module = Celery("of_a_module", broker="memory://", set_as_current=False)


def make_app(broker: str = "memory://", **config: Any) -> Celery:
    app = Celery("tests", broker=broker, set_as_current=False)
    # Queues in memory are those of the process.
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_transport_options={"polling_interval": 0.02} if broker == "memory://" else {},
        task_default_queue=uuid4().hex,
    )
    app.conf.update(**config)
    return app


@pytest.fixture
def make_web() -> Iterator[Any]:
    made: list[Web] = []

    def make(engine: CeleryEngine, **given: Any) -> Web:
        made.append(Web(engine, **given))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture
def log_of_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(work.LOG, str(tmp_path / "work.log"))
    return tmp_path / "work.log"


@contextmanager
def published() -> Iterator[list[dict[str, Any]]]:
    """What is published by Celery meanwhile: headers, properties and the queue."""
    found: list[dict[str, Any]] = []

    def hear(headers: Any, properties: Any, routing_key: str, **_: Any) -> None:
        found.append({**headers, **properties, "queue": routing_key})

    signals.before_task_publish.connect(hear)
    try:
        yield found
    finally:
        signals.before_task_publish.disconnect(hear)


@contextmanager
def works(app: Celery) -> Iterator[None]:
    """A worker of the app, in a thread of this process, whose log it leaves alone."""
    worker: Any = start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR")
    signals.setup_logging.connect(_set_up_nothing)
    try:
        with worker:
            yield
    finally:
        signals.setup_logging.disconnect(_set_up_nothing)


def _set_up_nothing(**_: Any) -> None:
    """Celery sets up no log where anything has answered its signal."""


# What it is given


@pytest.mark.parametrize("path", [f"{__name__}:of_a_module", f"{__name__}.of_a_module"])
def test_an_app_may_be_named_by_its_path(make_web: Any, path: str) -> None:
    form = {"BACKEND": "bgadapters.engines.celery.CeleryEngine", "OPTIONS": {"app": path}}
    engine = parse_settings({"engines": {"it": form}}).engines["it"]
    with published() as found:
        make_web(engine).send(work.note)
    assert [each["task"] for each in found] == [NAME]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("no.such.module:app", "there is no such Celery app"),
        (f"{__name__}:no_such_name", "there is no such Celery app"),
        (f"{__name__}:AMQP", "accepts a Celery app"),
        (7, "accepts a Celery app"),
    ],
)
def test_what_is_no_app_is_refused(given: Any, what: str) -> None:
    with pytest.raises(TypeError, match=what):
        CeleryEngine(given)


@pytest.mark.parametrize("queue", ["", 7, ["mail"]])
def test_what_is_no_name_of_a_queue_is_refused(queue: Any) -> None:
    with pytest.raises(TypeError, match="accepts the name of a queue"):
        CeleryEngine(make_app(), queue=queue)


def test_the_settings_of_the_app_may_still_change() -> None:
    """Nothing reads them before a task is added."""
    app = Celery("tests", set_as_current=False)
    CeleryEngine(app)
    assert not app.configured
    app.conf.task_default_queue = "later"
    assert NAME in app.tasks
    assert app.amqp.default_queue.name == "later"


def test_an_app_has_one_task_for_all_of_its_engines(make_web: Any, log_of_work: Path) -> None:
    app = make_app()
    first, second = CeleryEngine(app, queue="one"), CeleryEngine(app, queue="two")
    web = make_web(first, engines={"other": second})
    with published() as found:
        web.send(work.note)
        web.send(work.note, engine="other")
    assert [each["queue"] for each in found] == ["one", "two"]
    assert [name for name in app.tasks if name.startswith("bgadapters")] == [NAME]
    assert NAME not in make_app().tasks


# What a message says


def test_celery_shows_the_function_and_no_argument(make_web: Any, log_of_work: Path) -> None:
    """In its log, its events and its tools; in further attempts too."""
    app = make_app()
    web = make_web(CeleryEngine(app))
    with published() as found, works(app):
        task_id = web.send(work.fail, 1, retries=1, backoff=0.0)
        _until(lambda: len(work.lines(log_of_work)) == 2)
    assert [each["id"] for each in found] == [task_id, task_id]
    assert [each["shadow"] for each in found] == ["tests.engines.work.fail"] * 2
    assert [each["argsrepr"] for each in found] == ["(...)"] * 2
    assert [each["retries"] for each in found] == [0, 1]
    assert [line.attempt for line in work.lines(log_of_work)] == [1, 2]


def test_options_are_those_of_celery(make_web: Any) -> None:
    web = make_web(CeleryEngine(make_app(), queue="mail"))
    due = datetime.now(UTC) + timedelta(hours=2)
    with published() as found:
        web.send(work.note)
        web.send(work.note, delay=60)
        web.send(work.note, run_after=due)
        web.send(work.note, run_after=due - timedelta(days=1))
        web.send(work.note, timeout=2.5)
        web.send(work.take_long, timeout=2.5)
    plain, delayed, dated, late, limited, of_a_loop = found
    assert {each["queue"] for each in found} == {"mail"}
    assert plain["eta"] is plain["timelimit"][1] is None
    assert plain["ignore_result"] is True
    assert 55 < datetime.fromisoformat(delayed["eta"]).timestamp() - time.time() <= 60
    assert datetime.fromisoformat(dated["eta"]) == due
    assert late["eta"] is None
    assert limited["timelimit"] == [None, 2.5]
    assert of_a_loop["timelimit"] == [None, None], "it is cancelled, and not interrupted"


@pytest.mark.parametrize(
    ("broker", "config", "levels"),
    [
        (AMQP, {"task_queue_max_priority": 10}, [0, 4, 5, 6, 8, 10]),
        (AMQP, {"task_queue_max_priority": 255}, [0, 125, 127, 129, 191, 255]),
        (REDIS, {}, [9, 9, 6, 3, 3, 0]),
        (
            REDIS,
            {"broker_transport_options": {"priority_steps": list(range(10))}},
            [9, 6, 5, 4, 2, 0],
        ),
    ],
)
def test_priorities(broker: str, config: Any, levels: list[int]) -> None:
    """RabbitMQ takes the highest number first, Redis the lowest one."""
    engine = CeleryEngine(make_app(broker, **config))
    assert [engine._level(work.note, each) for each in (-100, -1, 0, 1, 50, 100)] == levels


# What is refused


def test_a_queue_without_priorities_is_refused(make_web: Any) -> None:
    """RabbitMQ would take no notice of them."""
    web = make_web(CeleryEngine(make_app(AMQP)))
    with pytest.raises(TypeError, match="task_queue_max_priority=10"):
        web.add(work.note, priority=1)
    with pytest.raises(TypeError, match="CeleryEngine has no priority"):
        make_web(CeleryEngine(make_app())).add(work.note, priority=1)
    assert web.kinds() == []


@pytest.mark.parametrize(
    "options", [{"delay": 3600}, {"run_after": datetime.now(UTC) + timedelta(hours=2)}]
)
def test_a_delay_that_redis_would_end_is_refused(make_web: Any, options: Any) -> None:
    """It gives a task to another worker that was not done within its visibility timeout."""
    refusing = make_web(CeleryEngine(make_app(REDIS)))
    with pytest.raises(TypeError, match="visibility_timeout is 3600 s"):
        refusing.add(work.note, **options)
    longer = make_app(REDIS, broker_transport_options={"visibility_timeout": 86400})
    engine = CeleryEngine(longer, patience=0.0)
    make_web(engine).add(work.note, **options)  # which cannot be sent


@pytest.mark.parametrize(
    ("broker", "options", "acknowledges"),
    [
        (AMQP, {}, False),
        (AMQP, {"confirm_publish": False}, False),
        (AMQP, {"confirm_publish": True}, True),
        (REDIS, {}, True),
        ("memory://", {}, False),
        ("filesystem://", {}, True),
    ],
)
def test_which_brokers_say_that_they_have_a_task(
    make_web: Any, broker: str, options: Any, acknowledges: bool
) -> None:
    engine = CeleryEngine(make_app(broker, broker_transport_options=options))
    assert engine.acknowledges is acknowledges
    if not acknowledges:
        with pytest.raises(TypeError, match="does not tell whether a task would survive"):
            make_web(engine).add(work.note, send="before_response")


def test_a_function_that_may_not_be_called_is_refused(make_web: Any) -> None:
    with pytest.raises(NotPortableError, match="task_modules"):
        make_web(CeleryEngine(make_app())).add(_until, bool)


# Celery's own tasks


def make_own(app: Celery) -> tuple[Any, list[Any]]:
    ran: list[Any] = []

    @app.task(bind=True, shared=False)  # type: ignore[untyped-decorator]
    def own(self: Any, *what: Any) -> None:
        ran.append((what, self.request.id, self.request.headers))

    return own, ran


def test_a_task_of_celery_is_sent_as_itself(make_web: Any) -> None:
    app = make_app()
    own, ran = make_own(app)
    web = make_web(CeleryEngine(app))
    token = work.tenant.set("acme")
    with published() as found, works(app):
        task_id = web.send(own, 1)
        _until(lambda: len(ran) == 1)
        web.send(own, 2, delay=30, timeout=1.5)
    work.tenant.reset(token)
    assert {event.name for event in web.events()} == {f"{__name__}.make_own.<locals>.own"}
    what, its_id, headers = ran[0]
    assert (what, its_id) == ((1,), task_id)
    assert headers["bgadapters-id"] == task_id
    assert headers["bgadapters-captured"] == '[["tests.engines.work.OfTenant", "acme"]]'
    assert [each["task"] for each in found] == [own.name] * 2
    assert found[1]["eta"] is not None
    assert found[1]["timelimit"] == [None, 1.5]
    assert "priority" not in found[0], "its own one counts"


def test_a_signature_is_sent_as_itself(make_web: Any) -> None:
    app = make_app()
    own, ran = make_own(app)
    web = make_web(CeleryEngine(app))
    with works(app):
        web.send(own.s("partial"), "argument")
        web.send(chain(own.si(1), own.si(2)))
        _until(lambda: len(ran) == 3)
    assert [what for what, _, _ in ran] == [("argument", "partial"), (1,), (2,)]


def test_a_shared_task_goes_to_the_app_of_the_engine(make_web: Any) -> None:
    ran = threading.Event()

    @shared_task(name="tests.shared")  # type: ignore[untyped-decorator]
    def shared() -> None:
        ran.set()

    app = make_app()
    with works(app):
        make_web(CeleryEngine(app)).send(shared)
        assert ran.wait(20)


def test_a_task_of_another_app_is_refused(make_web: Any) -> None:
    own, _ = make_own(make_app())
    web = make_web(CeleryEngine(make_app()))
    with pytest.raises(TypeError, match=r"has no task 'tests\.engines\.test_celery\.own'"):
        web.add(own)


def test_arguments_of_celery_s_own_tasks_are_checked() -> None:
    app = make_app()

    @app.task(shared=False)  # type: ignore[untyped-decorator]
    def own(number: int) -> None: ...

    engine = CeleryEngine(app)
    engine.check_call(Call(own, (1,), {}))
    engine.check_call(Call(own.s(1), (), {}))  # pyright: ignore[reportFunctionMemberAccess]
    with pytest.raises(TypeError, match="missing a required argument: 'number'"):
        engine.check_call(Call(own, (), {}))
    with pytest.raises(TypeError, match="arguments that Celery cannot send"):
        engine.check_call(Call(own, (object(),), {}))
    own.typing = False  # pyright: ignore[reportFunctionMemberAccess]
    engine.check_call(Call(own, (), {}))


def test_further_attempts_of_celery_s_own_tasks_are_its_own(make_web: Any) -> None:
    app = make_app()
    web = make_web(CeleryEngine(app))
    with pytest.raises(TypeError, match="autoretry_for"):
        web.add(make_own(app)[0], retries=1)


# task_always_eager


def test_an_eager_app_runs_it_at_once(make_web: Any, log_of_work: Path) -> None:
    web = make_web(CeleryEngine(make_app(AMQP, task_always_eager=True)))
    for func, args, options in (
        (work.note, ("plain",), {}),
        (work.anote, ("async",), {}),
        (work.fail, (1,), {"retries": 1, "backoff": 0.0}),
    ):
        web.send(func, *args, **options)
    lines = work.lines(log_of_work)
    assert [(each.what, each.attempt) for each in lines if each.kind == "ran"] == [
        ("plain", 1),
        ("async", 1),
        ("", 1),
        ("", 2),
    ]


# Where it arrives


class FailingTask:
    """A Celery task whose further attempts cannot be published."""

    def __init__(self, acks_late: bool) -> None:
        self.acks_late = acks_late

    def retry(self, **_: Any) -> None:
        raise Reject(OSError("no broker"), requeue=False)

    @property
    def request(self) -> Any:
        return type("Request", (), {"retries": 0, "id": "its-id", "shadow": "its.name"})


class Later:
    """Arrivals that are all to be run later."""

    def run(self, payload: str, attempt: int) -> None:
        raise RetryLater(1.0, KeyError(payload, attempt))


def test_an_attempt_that_cannot_be_published_leaves_the_task_in_its_queue(
    our_log: OurLog,
) -> None:
    """Celery would throw it away."""
    worker = Worker(make_app())
    worker.arrivals = Later()  # type: ignore[assignment]
    run = worker._run
    with pytest.raises(Reject) as raised:
        run(FailingTask(acks_late=True), "it")
    assert raised.value.requeue is True
    with pytest.raises(KeyError):  # it has left its queue: it has failed
        run(FailingTask(acks_late=False), "it")
    assert our_log.messages == [
        "No further attempt could be published of task its-id, its.name: OSError('no broker')"
    ]


class _SaysNothing(SystemExit):
    def __repr__(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("raised", "shown"),
    [(SystemExit(3), r"SystemExit\(3\)"), (_SaysNothing(3), r"\._SaysNothing$")],
)
def test_a_task_may_end_no_worker(raised: BaseException, shown: str) -> None:
    """Celery would run it again and again, in one process after the other."""

    class Leaving:
        def run(self, *_: Any) -> None:
            raise raised

    worker = Worker(make_app())
    worker.arrivals = Leaving()  # type: ignore[assignment]
    with pytest.raises(RuntimeError, match=shown):
        worker._run(FailingTask(acks_late=True), "it")


# Connections


def test_it_has_no_more_connections_than_the_app_is_to_have(make_web: Any) -> None:
    """Others wait for one, as long as for the broker."""
    engine = CeleryEngine(make_app(broker_pool_limit=1), timeout=0.2, patience=0.0)
    web, gate, publishes = make_web(engine), threading.Event(), threading.Event()

    def hold(**_: Any) -> None:
        publishes.set()
        gate.wait(20)

    signals.before_task_publish.connect(hold)
    try:
        web.add(work.note)
        assert publishes.wait(20)
        web.add(work.note)
        (failed,) = web.wait_for("failed")
        assert "all connections to Celery's broker are in use" in str(failed.exception)
    finally:
        gate.set()
        signals.before_task_publish.disconnect(hold)
    web.wait_for("sent")


def test_what_is_wrong_with_a_message_is_no_fault_of_the_broker(make_web: Any) -> None:
    app = make_app(task_create_missing_queues=False)
    web = make_web(CeleryEngine(app, queue="nowhere"))
    web.add(work.note)
    (failed,) = web.wait_for("failed")
    assert isinstance(failed.exception, QueueNotFound)
    assert not web.events("engine_down")


def _until(is_so: Any) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)
