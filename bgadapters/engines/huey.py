"""Sends tasks to Huey, whose consumer runs them.

::

    huey = SqliteHuey("shop", filename="huey.db", serializer=SignedSerializer(secret=SECRET))

    init_app(app, engines={"heavy": HueyEngine(huey)})

The consumer is Huey's own, of the module in which the application is set up with the engine:
``huey_consumer shop.main.huey``.
"""

from __future__ import annotations

import copy
import sqlite3
import sys
import threading
from datetime import UTC, datetime
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary, ref

from huey import Huey, storage
from huey.api import TaskWrapper
from huey.exceptions import RetryTask
from huey.serializer import SignedSerializer

from bgadapters.adapters import Call, Options, SettingsError, callable_name
from bgadapters.engines import Ability, Engine, EngineUnavailableError, Message, RetryLater


class HueyEngine(Engine):
    """Sends tasks to one Huey.

    Several engines may have one Huey. Its consumer runs their tasks in the application of the one
    that was made last.

    Args:
        huey: a `huey.Huey` with a `huey.serializer.SignedSerializer`, or its dotted import path.
            Its messages are pickled, and whoever can write one that is not signed can have any
            code called. A `huey.MemoryHuey`, whose messages stay in the process, needs none.
        given: see `Engine`.

    Raises:
        SettingsError: it is none, has another serializer, or drops its tasks.
    """

    def __init__(self, huey: Any, **given: Any) -> None:
        super().__init__(**given)
        self._huey: Huey = _checked(_imported(huey) if isinstance(huey, str) else huey)
        self._storage: Any = _storage_class(self._huey)
        self.acknowledges = not issubclass(self._storage, storage.MemoryStorage)
        self.task_class = _registered(self)
        self._lock = threading.Lock()
        self._sender: _Sender | None = None

    @property
    def huey(self) -> Huey:
        """Where it sends to."""
        return self._huey

    # Where tasks are added.

    @property
    def abilities(self) -> frozenset[Ability]:  # type: ignore[override]  # of most it is a constant
        """What it can do with a task: as much as the storage of its Huey can."""
        found: set[Ability] = {"retries", "timeout"}
        if self._storage.priority:
            found.add("priority")
        if not self._huey.immediate:  # which runs at once what it gets
            found.add("delay")
        return frozenset(found)

    def owns(self, func: Any) -> bool:
        """Whether it is a task of this Huey, as ``@huey.task()`` makes them."""
        return isinstance(func, TaskWrapper) and func.huey is self._huey

    def check(self, func: Any, options: Options) -> None:
        """Check what only this Huey can tell.

        Raises:
            TypeError: it is a task of another Huey, there are no such priorities, or a task of
                Huey's own has an option that Huey has no place for.
        """
        what = f"cannot add {callable_name(func)} with engine={options.engine!r}"
        if isinstance(func, TaskWrapper) and func.huey is not self._huey:
            raise TypeError(f"{what}: it is a task of another Huey, {func.huey.name!r}")
        if options.priority < 0 and issubclass(self._storage, storage.FileStorage):
            raise TypeError(f"{what} and priority={options.priority}: FileStorage has them from 0")
        if self.owns(func):
            self._check_own(what, options)

    def _check_own(self, what: str, options: Options) -> None:
        if options.timeout is not None:
            raise TypeError(f"{what} and timeout: write it where Huey makes the task")
        if options.retries and callable(options.backoff):
            raise TypeError(f"{what} and a function as backoff: Huey takes a number of seconds")

    def check_call(self, call: Call) -> None:
        """Check the arguments of a task of Huey's own.

        Raises:
            TypeError: Huey cannot write them.
        """
        try:
            self._huey.serialize_task(call.func.task_class(call.args, call.kwargs))
        except Exception as exc:
            raise TypeError(
                f"cannot add {callable_name(call.func)} with its arguments, which Huey pickles: "
                f"{type(exc).__name__}: {exc}"
            ) from exc

    def send(self, message: Message) -> None:
        """Put a task into Huey's queue."""
        task = self._made(message)
        if self._huey.immediate:
            self._huey.enqueue(task)
            return
        try:
            self._sender_here().send(task)
        except _broker_errors() as exc:
            raise EngineUnavailableError(f"{self._huey.name}: {exc}") from exc

    def _made(self, message: Message) -> Any:
        call, options = message.call, message.options
        given: dict[str, Any] = {"id": message.id, "priority": options.priority or None}
        if message.due is not None:
            zone = UTC if self._huey.utc else None  # Huey's times have none, and are one of both
            given["eta"] = datetime.fromtimestamp(message.due, zone).replace(tzinfo=None)
        if not self.owns(call.func):
            return self.task_class((message.payload, 1), {}, **given)
        if options.retries:
            given.update(retries=options.retries, retry_delay=options.backoff)
        return call.func.task_class(call.args, call.kwargs, **given)

    def _sender_here(self) -> _Sender:
        if not self._lock.acquire(timeout=self.timeout):
            raise TimeoutError("another task has waited for as long")
        try:
            if self._sender is None:
                self._sender = _sender(self._huey, self.timeout)
            return self._sender
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connections by which it sends."""
        sender, self._sender = self._sender, None
        if sender is not None:
            sender.close()

    def reset_after_fork(self) -> None:
        """Leave these connections to the parent."""
        self._lock = threading.Lock()
        self._sender = None

    # Where they arrive.

    def work(self, payload: str, attempt: int, task: Any) -> None:
        """Run what Huey's consumer has got, and tell Huey how that ended.

        Args:
            payload: that of the message.
            attempt: the number of the attempt.
            task: Huey's own object of it.
        """
        try:
            self.run(payload, attempt)
        except RetryLater as exc:
            task.args = (payload, attempt + 1)
            delay = None if self._huey.immediate else exc.seconds or None
            raise RetryTask(str(exc), delay=delay) from exc
        except (Exception, KeyboardInterrupt):  # by that Huey ends its workers
            raise
        except BaseException as exc:  # a SystemExit would end the consumer's thread
            raise RuntimeError(f"the task has raised {exc!r}") from exc


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise SettingsError(f"HueyEngine(huey={path!r}): it cannot be imported: {exc}") from exc


def _checked(huey: Any) -> Huey:
    if not isinstance(huey, Huey):
        raise SettingsError(f"HueyEngine accepts a huey.Huey or its dotted path, not {huey!r}")
    kind = _storage_class(huey)
    if issubclass(kind, storage.BlackHoleStorage):
        raise SettingsError(f"HueyEngine: {huey.name!r} is a BlackHoleHuey, which loses all tasks")
    is_signed = isinstance(huey.serializer, SignedSerializer)
    if not is_signed and not issubclass(kind, storage.MemoryStorage):
        name = type(huey).__name__
        raise SettingsError(
            f"HueyEngine: the messages of the Huey {huey.name!r} are pickled and not signed, so "
            "that whoever can write one can have any code called. Give it a secret: "
            "from huey.serializer import SignedSerializer; "
            f"huey = {name}({huey.name!r}, serializer=SignedSerializer(secret=...), ...)"
        )
    return huey


def _storage_class(huey: Huey) -> Any:
    return huey.storage_class or storage.RedisStorage  # as Huey does


# The task in which a consumer runs those of applications.


class _Task:
    """It is registered once with each Huey, which has names but once.

    Attributes:
        engine: the engine that was made last.
        task_class: what Huey makes of it.
    """

    def __init__(self, engine: HueyEngine) -> None:
        self.engine = ref(engine)

        def run(payload: str, attempt: int, task: Any) -> None:
            found = self.engine()
            if found is None:
                raise RuntimeError("the application whose engine it was is there no more")
            found.work(payload, attempt, task)

        run.__module__ = "bgadapters"
        self.task_class: Any = engine.huey.task(name="run", context=True)(run).task_class


_tasks: WeakKeyDictionary[Huey, _Task] = WeakKeyDictionary()


def _registered(engine: HueyEngine) -> Any:
    task = _tasks.get(engine.huey)
    if task is None:
        task = _tasks[engine.huey] = _Task(engine)
    task.engine = ref(engine)
    return task.task_class


# How it is sent: not by the storage of Huey itself, which may wait for ever.


class _Sender:
    """Puts tasks into the queue of a Huey.

    Args:
        huey: the Huey.
        storage: another way to its tasks. Default: its own.
    """

    def __init__(self, huey: Huey, storage: Any = None) -> None:
        self._huey = huey
        self._is_ours = storage is not None
        if self._is_ours:
            self._huey = copy.copy(huey)
            self._huey.storage = storage

    def send(self, task: Any) -> None:
        self._huey.enqueue(task)

    def close(self) -> None:
        if self._is_ours:
            self._huey.storage.close()
            pool = getattr(self._huey.storage, "pool", None)
            if pool is not None:
                pool.disconnect()


class _SqliteSender(_Sender):
    """The same, for one thread at a time, and without a connection between two tasks.

    In a forked child an open one would make SQLite believe that it has the parent's locks.
    """

    def __init__(self, huey: Huey, storage: Any, timeout: float) -> None:
        super().__init__(huey, storage)
        self._timeout = timeout
        self._lock = threading.Lock()

    def send(self, task: Any) -> None:
        if not self._lock.acquire(timeout=self._timeout):
            raise TimeoutError("another task has waited for as long")
        try:
            super().send(task)
        finally:
            self._huey.storage.close()
            self._lock.release()

    def close(self) -> None:
        """Nothing is open."""


def _sender(huey: Huey, timeout: float) -> _Sender:
    """Return what gives up after so many seconds, where it is known how to have Huey do so."""
    kind = _storage_class(huey)
    if issubclass(kind, storage.SqliteStorage):
        made = huey.get_storage(**{**huey.storage_kwargs, "timeout": timeout})
        return _SqliteSender(huey, made, timeout)
    if issubclass(kind, storage.RedisStorage):
        return _Sender(huey, _redis_storage(huey.storage, timeout))
    postgres = getattr(storage, "PostgresStorage", None)  # of Huey 3
    if postgres is not None and issubclass(kind, postgres):
        return _Sender(huey, _postgres_storage(huey, timeout))
    return _Sender(huey)


def _redis_storage(given: Any, timeout: float) -> Any:
    from redis import ConnectionPool
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    limits: dict[str, Any] = {
        "socket_connect_timeout": timeout / 2,
        "socket_timeout": timeout / 2,
        "retry": Retry(NoBackoff(), 0),  # what has failed is tried again by us
    }
    made = copy.copy(given)
    made.pool = ConnectionPool(
        given.pool.connection_class, **{**given.pool.connection_kwargs, **limits}
    )
    made.conn = given.redis_client(connection_pool=made.pool)
    return made


def _postgres_storage(huey: Huey, timeout: float) -> Any:
    milliseconds = round(timeout * 1000)
    limits = {
        "create_tables": False,
        "connect_timeout": max(1, round(timeout / 2)),
        "tcp_user_timeout": milliseconds,
        "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
    }
    return huey.get_storage(**{**huey.storage_kwargs, **limits})


def _broker_errors() -> tuple[type[BaseException], ...]:
    """Return what Huey's storages raise where they cannot be reached, are full or locked."""
    redis, psycopg = sys.modules.get("redis"), sys.modules.get("psycopg")
    found: list[type[BaseException]] = [OSError, sqlite3.Error]
    if redis is not None:
        found.append(redis.RedisError)
    if psycopg is not None:
        found.append(psycopg.Error)
    return tuple(found)
