"""Sends tasks to a Celery app."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from inspect import iscoroutinefunction, signature
from typing import Any

from celery import Celery, Task
from celery.canvas import Signature, maybe_signature
from kombu.exceptions import EncodeError
from kombu.serialization import dumps
from kombu.utils.imports import symbol_by_name

from bgadapters.adapters import Ability, Call, Engine, Message, Options, callable_name
from bgadapters.engines.celery.broker import AMQP, REDIS, Broker
from bgadapters.engines.celery.worker import HIDDEN, NAME, worker_of

_ALL: frozenset[Ability] = frozenset({"retries", "timeout", "delay", "priority"})
_STEPS = (0, 3, 6, 9)  # the default of ``priority_steps`` on Redis
_VISIBILITY = 3600.0  # the default of ``visibility_timeout``, in seconds


class CeleryEngine(Engine):
    """Sends tasks to Celery's broker, for its workers to run.

    Workers need the engine too: have them import the module that makes it. Functions arrive as the
    Celery task ``bgadapters.run``. A Celery task or a signature is sent as itself.

    Args:
        app: the Celery app, or its dotted path, such as ``"shop.celery:app"``.
        queue: the name of the queue. Default: the one to which Celery routes the task.
        failover: see `Engine`.
        timeout: seconds after which the broker counts as down that does not answer. Default: 5.
        patience: see `Engine`.

    Raises:
        TypeError: what was given is none of that.
    """

    def __init__(
        self,
        app: Celery | str,
        *,
        queue: str | None = None,
        failover: Sequence[str] = (),
        timeout: float = 5.0,
        patience: float = 10.0,
    ) -> None:
        super().__init__(failover=failover, timeout=timeout, patience=patience)
        given: Any = queue
        if given is not None and not (isinstance(given, str) and given):
            raise TypeError(f"queue= accepts the name of a queue, not {queue!r}")
        self._app = _app(app)
        self._queue = queue
        self._broker = Broker(self._app, timeout)
        self._worker = worker_of(self._app)
        self.arrivals = self._worker.arrivals

    @property
    def abilities(self) -> frozenset[Ability]:  # type: ignore[override]  # as below
        """What Celery can do with its broker: RabbitMQ and Redis have priorities."""
        return _ALL if self._broker.kind in {AMQP, REDIS} else _ALL - {"priority"}

    @property
    def acknowledges(self) -> bool:  # type: ignore[override]  # of most it is a constant
        """Whether the broker says that it has a task, and is another process.

        RabbitMQ says so where ``broker_transport_options`` of the Celery app have
        ``confirm_publish``.
        """
        return self._broker.confirms

    def owns(self, func: Any) -> bool:
        """Celery tasks and signatures are its own."""
        return isinstance(func, (Task, Signature))

    def check(self, func: Any, options: Options) -> None:
        """Refuse what Celery, or its broker, cannot do with a task."""
        what = f"cannot add {callable_name(func)} with engine={options.engine!r}"
        if self.owns(func):
            if options.retries:
                raise TypeError(
                    f"{what} and retries={options.retries}: a Celery task has its own, such as "
                    "@app.task(autoretry_for=(OSError,), max_retries=3)"
                )
            if isinstance(func, Task) and func.name not in self._app.tasks:
                raise TypeError(f"{what}: {self._app!r} has no task {func.name!r}")
        if options.priority and self._level(func, options.priority) is None:
            raise TypeError(
                f"{what} and priority={options.priority}: its queue has no priorities in RabbitMQ. "
                "Declare it with them: task_queue_max_priority=10 in the Celery app"
            )
        if options.delay or options.run_after is not None:
            self._check_delay(options, what)

    def check_call(self, call: Call) -> None:
        """Refuse arguments with which a Celery task could not be called, or sent."""
        func, args, kwargs = call
        if not isinstance(func, Task):
            return  # what a signature has besides is known to Celery alone
        what = f"cannot add {func.name}"
        if func.typing:
            try:
                signature(func.run).bind(*args, **kwargs)
            except TypeError as exc:
                raise TypeError(f"{what} with these arguments: {exc}") from exc
        try:
            kind = func.serializer or self._app.conf.task_serializer
            dumps((args, kwargs), kind)  # type: ignore[no-untyped-call]
        except EncodeError as exc:
            raise TypeError(f"{what} with arguments that Celery cannot send: {exc}") from exc

    def _check_delay(self, options: Options, what: str) -> None:
        if self._broker.kind != REDIS:
            return
        most = float(self._broker.options.get("visibility_timeout", _VISIBILITY))
        seconds = options.delay
        if options.run_after is not None:
            seconds = options.run_after.timestamp() - time.time()
        if seconds >= most:
            raise TypeError(
                f"{what} and a delay of {seconds:.0f} s: on Redis it would run more than once, as "
                f"its visibility_timeout is {most:.0f} s. Raise that in the Celery app: "
                "broker_transport_options={'visibility_timeout': seconds}"
            )

    def send(self, message: Message) -> None:
        """Publish a task; return when the broker has it."""
        target, options = self._target(message), self._options(message)
        call = message.call
        args, kwargs = (call.args, call.kwargs)
        if message.payload:
            args, kwargs = (message.payload,), {}
            options |= {"shadow": message.name, "argsrepr": HIDDEN}
        else:
            options["headers"] = dict(message.headers)
        publish = partial(target.apply_async, args, kwargs, task_id=message.id, **options)
        if self._app.conf.task_always_eager:
            publish()
        else:
            self._broker.publish(publish)

    def _target(self, message: Message) -> Any:
        func = message.call.func
        if message.payload:
            return self._worker.task
        if isinstance(func, Signature):
            return maybe_signature(dict(func), app=self._app)
        return self._app.tasks[func.name]

    def _options(self, message: Message) -> dict[str, Any]:
        """Return what the options of a task are to Celery."""
        options, given = message.options, dict[str, Any]()
        if self._queue is not None:
            given["queue"] = self._queue
        if message.due is not None and message.due > time.time():
            given["eta"] = datetime.fromtimestamp(message.due, UTC)
        if options.timeout is not None and not iscoroutinefunction(message.call.func):
            given["soft_time_limit"] = options.timeout  # the others are cancelled
        if options.priority or message.payload:
            level = self._level(message.call.func, options.priority)
            if level is not None:
                given["priority"] = level
        return given

    def _level(self, func: Any, priority: int) -> int | None:
        """Return what a priority is to the broker; None if it has none.

        RabbitMQ has levels from 0 up to what the queue was declared with. Redis has a few steps, of
        which the lowest number goes first.
        """
        if self._broker.kind == REDIS:
            steps = sorted(self._broker.options.get("priority_steps") or _STEPS, reverse=True)
            return int(steps[_scaled(priority, len(steps) - 1)])
        most = self._levels_of_queue(func) if self._broker.kind == AMQP else 0
        return _scaled(priority, most) if most else None

    def _levels_of_queue(self, func: Any) -> int:
        name = NAME
        if self.owns(func):
            name = func.name if isinstance(func, Task) else func.task
        given: dict[str, Any] = {} if self._queue is None else {"queue": self._queue}
        queue = self._app.amqp.router.route(given, name).get("queue")
        arguments: Mapping[str, Any] = getattr(queue, "queue_arguments", None) or {}
        levels = getattr(queue, "max_priority", None) or arguments.get("x-max-priority")
        return int(levels or 0)

    def close(self) -> None:
        """Close what is open."""
        self._broker.close()

    def reset_after_fork(self) -> None:
        """Leave what is open to the parent."""
        self._broker.reset_after_fork()


def _scaled(priority: int, most: int) -> int:
    """Return the level, from 0 to ``most``, of a priority from -100 to 100.

    What is not 0 is on another side of 0 than what has the other sign, where there is room.
    """
    middle = most // 2
    if priority < 0:
        return middle + priority * middle // 100
    return middle - (-priority * (most - middle) // 100)


def _app(given: Any) -> Celery:
    app = given
    if isinstance(given, str):
        try:
            app = symbol_by_name(given)  # type: ignore[no-untyped-call]
        except (ImportError, AttributeError, ValueError) as exc:
            raise TypeError(f"CeleryEngine({given!r}): there is no such Celery app: {exc}") from exc
    if not isinstance(app, Celery):
        raise TypeError(
            "CeleryEngine() accepts a Celery app, or its dotted path such as 'shop.celery:app', "
            f"not {given!r}"
        )
    return app
