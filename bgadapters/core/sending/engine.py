"""What the author of an engine writes, and what an engine is given."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Literal, NamedTuple

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.options import Options
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.task import Call
from bgadapters.core.sending.arrivals import Arrivals

Ability = Literal["retries", "timeout", "delay", "priority", "key", "transaction"]
"""What an engine may be able to do with a task: an option, or to be sent in a transaction.

``"retries"`` is ``retry_on``, ``backoff`` and ``max_backoff`` as well, ``"delay"`` is
``run_after``, and ``"key"`` is ``on_duplicate``.
"""


ALL: frozenset[Ability] = frozenset({"retries", "timeout", "delay", "priority", "key"})
"""Those of an engine whose tasks this process waits for: options are for this process."""


class SentByCommit(Precondition):
    """What a task waits for that an engine gets with a transaction which it has not joined yet.

    Whoever makes one resolves it when the transaction has ended.

    Attributes:
        left_out: why the task was left out of it, if another one with its key waits; else None.
    """

    why_failed = "their transaction was rolled back"
    spares_always = False  # what the transaction has not sent nobody has

    def __init__(self) -> None:
        super().__init__()
        self.left_out: str | None = None


class Message(NamedTuple):
    """A task on its way to an engine.

    Attributes:
        id: that of the task, of 32 hexadecimal digits; the same each time it is sent.
        name: what logs call the task.
        payload: JSON, for `Engine.run` where it arrives; empty for an object of the engine's own.
        options: those of the task.
        due: the time before which it should not start, as `time.time` tells it; None for none.
        call: what was added. Of an object of the engine's own this is what to send.
        headers: what task middlewares have captured and where the task is from, as text, to be sent
            with an object of the engine's own if the engine has a place for it.
    """

    id: str
    name: str
    payload: str
    options: Options
    due: float | None
    call: Call
    headers: Mapping[str, str]


class Engine(ABC):
    """Where tasks may be sent, to be run by another process.

    ``docs/writing-an-engine.md`` has an example. Several applications may be set up with one
    engine: each runs the tasks that it has added, as `run` finds out.

    Args:
        failover: names of engines that get the tasks, in this order, while this one is down;
            ``"local"`` is this process. Default: tasks wait, and fail in the end.
        timeout: seconds after which an engine counts as down that does not answer. Default: 5.
        patience: seconds for which a task is tried again that could not be sent, before it goes
            elsewhere or fails; at most the setting ``drain_timeout``. Default: 10.

    Attributes:
        abilities: what it can do with a task. `add_task` refuses options that are not among them.
        acknowledges: whether what `send` returns says that the task will survive this process, as
            ``send="before_response"`` and ``durable=True`` need it.
        failover, timeout, patience: as given.
        arrivals: the applications that run what arrives. Engines whose tasks arrive at one place
            share this: set it before an application is set up with the engine.
    """

    abilities: ClassVar[frozenset[Ability]] = frozenset()
    acknowledges: bool = True

    def __init__(
        self, *, failover: Sequence[str] = (), timeout: float = 5.0, patience: float = 10.0
    ) -> None:
        given: Any = failover
        if isinstance(given, str) or any(not isinstance(each, str) for each in given):
            raise TypeError(f"failover= accepts a list of names of engines, not {failover!r}")
        numbers: dict[str, Any] = {"timeout": timeout, "patience": patience}
        for name, value in numbers.items():
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or value < 0:
                raise TypeError(f"{name}= accepts a number of seconds from 0, not {value!r}")
        self.failover = tuple(failover)
        self.timeout = timeout
        self.patience = patience
        self.arrivals = Arrivals(type(self).__name__)

    # What an engine may define.

    @abstractmethod
    def send(self, message: Message) -> None:
        """Send a task, in a thread that may wait; return when the engine has it.

        Args:
            message: the task.

        Raises:
            EngineUnavailableError: the engine is down, or has not answered within ``timeout``. It
                is tried again.
            KeyIsTaken: another task with its key waits there, so this one is left out.
            Exception: the engine refuses this task, which then fails.
        """

    async def asend(self, message: Message) -> None:
        """Do as `send`, on an event loop and without blocking it. Default: in a thread."""
        await asyncio.to_thread(self.send, message)

    def send_in_transaction(self, message: Message, session: Any) -> SentByCommit | None:
        """Send a task as a part of the transaction that is open here, for ``"transaction"``.

        ``add_task`` calls it, on an event loop too. What would block that has to wait for the
        commit, which an `AsyncSession` awaits.

        Args:
            message: the task.
            session: the option ``session``; None for the connection of the framework.

        Returns:
            None if it was sent; else what is resolved when the transaction has ended.

        Raises:
            TypeError: the session is none that the engine knows, or no transaction is open here.
            KeyIsTaken: as of `send`. The transaction goes on.
        """
        raise NotImplementedError

    def owns(self, func: Any) -> bool:  # noqa: ARG002
        """Whether what was given to ``add_task`` is a task object of the engine's own.

        It is sent as itself, and checked by nobody else. Default: nothing is.
        """
        return False

    def check(self, func: Any, options: Options) -> None:  # noqa: B027  an engine need not
        """Check a task that is being added, beside what is checked of all.

        Args:
            func: what was added.
            options: its options.

        Raises:
            TypeError: the engine cannot take it; the message says what to do.
        """

    def check_call(self, call: Call) -> None:  # noqa: B027  an engine need not
        """Check the arguments of a task object of the engine's own, which is being added.

        Args:
            call: the task object and its arguments.

        Raises:
            TypeError: they are none that it could be sent with.
        """

    def close(self) -> None:  # noqa: B027  an engine need not
        """The process ends, or the application is done with it: close connections."""

    def reset_after_fork(self) -> None:  # noqa: B027  an engine need not
        """Forget connections that are the parent's, in a forked child."""

    # What it may use.

    def bind(self, runtime: Runtime) -> None:
        """An application is set up with it, and runs its tasks where they arrive.

        Raises:
            SettingsError: it cannot be told from another application, which was set up before.
        """
        self.arrivals.add(runtime)

    @property
    def runtime(self) -> Runtime:
        """The application that was set up last; in a process without one, the default."""
        return self.arrivals.latest

    def run(self, payload: str, attempt: int = 1) -> None:
        """Run what has arrived, in this thread, as its application's own tasks are run.

        Args:
            payload: that of the message.
            attempt: which attempt to run it this is, from 1.

        Raises:
            RetryLater: it has failed and is to be run once more, if ``"retries"`` is among the
                engine's abilities.
            RefusedError: it names no task that may be run here.
            BaseException: what the task has raised. It has failed, and that was told.
        """
        self.arrivals.run(payload, attempt)


Run = Callable[[str, int], Awaitable[None]]
"""Runs a task: called with the payload of its message, and with the number of the attempt."""


class RunningEngine(Engine):
    """An engine whose tasks this process waits for: how they end is known here.

    So all options are those of a task in this process: retries, timeouts, keys, limits. What it is
    given comes from this process alone, so that any function may be called that can be imported.

    Attributes:
        places: how many tasks it runs at one time; the others wait for their turn.
    """

    abilities = ALL
    acknowledges = False
    places: int

    def send(self, message: Message) -> None:
        """It is not sent, but run."""
        raise NotImplementedError

    @abstractmethod
    def place(self) -> AbstractAsyncContextManager[Run]:
        """Return a context manager that surrounds one attempt, on an event loop.

        What it yields runs the attempt, and is called once at most. It raises what the task has
        raised. It is cancelled where the attempt has taken longer than its ``timeout``, and where a
        drain has given up on it. Time that is spent before counts for neither.
        """
