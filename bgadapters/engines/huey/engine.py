"""What users see of Huey as an engine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from huey import Huey, storage
from huey.api import TaskWrapper
from huey.serializer import SignedSerializer

from bgadapters.adapters import Call, Options, SettingsError, callable_name
from bgadapters.engines import Ability, Engine, EngineUnavailableError, Message
from bgadapters.engines.huey.arriving import arriving_at
from bgadapters.engines.huey.sender import Sender, errors_of, sender, storage_class


class HueyEngine(Engine):
    """Sends tasks to one Huey.

    A consumer has to import the module that makes the engine. Several engines may have one Huey,
    and be of several applications: each of these runs its own tasks in the consumer.

    Args:
        huey: a `huey.Huey` with a `huey.serializer.SignedSerializer`, or its dotted import path.
            Its messages are pickled, and whoever can write one that is not signed can have any
            code called. A `huey.MemoryHuey`, whose messages stay in the process, needs none.
        failover: see `Engine`.
        timeout: seconds after which Redis or PostgreSQL counts as down that does not answer, or a
            file of SQLite that is locked. Of other storages it is theirs to say. Default: 5.
        patience: see `Engine`.

    Raises:
        SettingsError: it is none, has another serializer, or drops its tasks.
    """

    def __init__(
        self,
        huey: Huey | str,
        *,
        failover: Sequence[str] = (),
        timeout: float = 5.0,
        patience: float = 10.0,
    ) -> None:
        super().__init__(failover=failover, timeout=timeout, patience=patience)
        self._huey: Huey = _checked(_imported(huey) if isinstance(huey, str) else huey)
        self._storage: Any = storage_class(self._huey)
        self.acknowledges = not issubclass(self._storage, storage.MemoryStorage)
        arriving = arriving_at(self.huey)
        self.task_class, self.arrivals = arriving.task_class, arriving.arrivals
        self._away = errors_of(self._storage)
        self._lock = threading.Lock()
        self._sender: Sender | None = None

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
        except self._away as exc:
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

    def _sender_here(self) -> Sender:
        if not self._lock.acquire(timeout=self.timeout):
            raise TimeoutError("another task has waited for as long")
        try:
            if self._sender is None:
                self._sender = sender(self._huey, self.timeout)
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


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise SettingsError(f"HueyEngine(huey={path!r}): it cannot be imported: {exc}") from exc


def _checked(huey: Any) -> Huey:
    if not isinstance(huey, Huey):
        raise SettingsError(f"HueyEngine accepts a huey.Huey or its dotted path, not {huey!r}")
    kind = storage_class(huey)
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
