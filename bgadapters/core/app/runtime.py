"""What one application runs with, put together."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextvars import copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from weakref import ref

from bgadapters.core import host
from bgadapters.core.app.drainer import Drainer
from bgadapters.core.app.scheduler import Scheduler
from bgadapters.core.model import guard, instrumentation, mode
from bgadapters.core.model.context import refuse_in_task
from bgadapters.core.model.errors import SettingsError
from bgadapters.core.model.events import Events
from bgadapters.core.model.hooks import FrameworkHooks, Installation
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.middleware import TaskMiddlewares
from bgadapters.core.model.options import DEFAULT_OPTIONS, Options
from bgadapters.core.model.settings import Settings
from bgadapters.core.process import shutdown, signals

if TYPE_CHECKING:
    from bgadapters.core.model.batch import Batch
    from bgadapters.core.model.control import Feature
    from bgadapters.core.model.task import Task

CHECK_TOKEN = "BGADAPTERS_CHECK_TOKEN"  # noqa: S105  the variable's name


_SETTLING = 5.0  # seconds that the store gets at the end of a drain


class Written(Protocol):
    """What tells whether durable tasks were kept."""

    def wait(self) -> None:
        """Wait until they are.

        Raises:
            StoreUnavailableError: they are not, and will not be.
        """
        ...

    async def received(self) -> None:
        """Do as `wait`, without blocking the event loop."""
        ...

    def tell(self, hear: Callable[[BaseException], object]) -> None:
        """Have a function called with what has failed, if it does."""
        ...


class KeepsTasks(Protocol):
    """What keeps the durable tasks of an application."""

    @property
    def serves(self) -> bool:
        """Whether it looks for what others have left behind."""
        ...

    def confirm(self, items: Sequence[Any], waits: bool = False) -> Written:
        """Have kept what was noted in a batch; ``waits`` if this thread waits for it next."""
        ...

    def settle(self, timeout: float) -> None:
        """A drain has ended: write what waits to be written, within so many seconds."""
        ...

    async def asettle(self, timeout: float) -> None:
        """Do as `settle`, without blocking the event loop."""
        ...

    def close(self, timeout: float) -> None:
        """The process ends: what is left is free, within so many seconds."""
        ...

    def reset_after_fork(self) -> None:
        """Forget what belongs to the parent's threads."""
        ...


class SentBefore:
    """A task that is to be sent before its response begins.

    No abstract class: each response with durable tasks asks of each whether it is one of these.
    """

    __slots__ = ()

    def send(self) -> None:
        """Send it in this thread.

        Raises:
            EngineUnavailableError: it could not be sent.
        """
        raise NotImplementedError

    async def asend(self) -> None:
        """Do as `send`, without blocking the event loop."""
        raise NotImplementedError


class SendsTasks(Protocol):
    """The engines of an application."""

    def close(self) -> None:
        """The process ends."""
        ...

    def reset_after_fork(self) -> None:
        """Forget what belongs to the parent."""
        ...


K = TypeVar("K", bound=KeepsTasks)
S = TypeVar("S", bound=SendsTasks)


class Runtime:
    """One application's workers and policies; applications in one process share none of it.

    Nothing is started before the first task is released.

    Args:
        settings: see `Settings`. Default: its defaults.
        hooks: what the framework does around tasks. Default: nothing.

    Attributes:
        adds_plainly: whether a task is added without a check, a bound or a middleware, and nobody
            hears of it but the receivers of ``signals``.
        serves_plainly: whether a response is made without a check, is not held, and says of no task
            that it is kept or was sent.
        confirms_tasks: whether a response may have to wait until tasks are kept, or sent.
        default_options: those of a task that is given none.
        middlewares: those of the process and of the setting ``task_middleware``; None if there
            are none.
        preconditions: what a task that is added has to wait for; None if there is nothing.
        signals: those of the framework; None if it has none.
        task_context: returns the context of a task that is added.
        hears_shutdown: whether the server has begun the lifespan protocol.
        is_shut_down: whether it has ended it, so that no drain comes for what is released now.

    Raises:
        SettingsError: the environment's token for the check could be guessed.
    """

    def __init__(
        self, settings: Settings | None = None, hooks: FrameworkHooks | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.hooks = (hooks or FrameworkHooks()).completed(self.settings.on_commit)
        self.task_context = self.hooks.context or copy_context
        self.preconditions = self.hooks.preconditions
        self.signals = self.hooks.signals
        self.is_strict = self.settings.strict_portable
        self.middlewares: TaskMiddlewares | None = None
        self.events = Events(self.settings.on_event, self.settings.on_error, self.hooks)
        self.scheduler = Scheduler(
            self.settings, self.hooks, self.events, self._register, self._give_up_loop
        )
        self.admission = self.scheduler.admission
        self.in_flight = self.scheduler.in_flight
        self.drainer = Drainer(self.scheduler.execution, self.scheduler.later, self.scheduler.pool)
        self.adds_plainly = False
        self.confirms_tasks = self.settings.store is not None or bool(self.settings.engines)
        self.serves_plainly = (
            self.settings.await_tasks
            and not self.confirms_tasks
            and not self.settings.hold_response
        )
        self.default_options = self.settings.defaults.over(DEFAULT_OPTIONS)
        self.check_token = check_token()
        self.hears_shutdown = self.is_shut_down = False
        self._outbox: dict[str, Any] = {}  # without a lock, as `_default`
        self._engines: dict[str, Any] = {}  # the same
        for engine in self.settings.engines.values():
            engine.bind(self)
        self._has_looked_at_sigterm = False
        _note(self)  # before the first time: what is installed from now on finds it
        self.refresh()
        _warn_of_a_shorter_grace_period(self.settings.drain_timeout)

    def refresh(self) -> None:
        """Note what is installed for every application of the process."""
        middlewares = [*instrumentation.middlewares(), *self.settings.task_middleware]
        self.middlewares = TaskMiddlewares(middlewares) if middlewares else None
        self.adds_plainly = not (
            self.is_strict
            or self.default_options is not DEFAULT_OPTIONS
            or self.middlewares
            or self.events.has_own_hooks()
            or self.settings.on_full == "reject"
        )

    @property
    def outbox(self) -> KeepsTasks | None:
        """What keeps its durable tasks; None if nothing has asked for it yet."""
        return self._outbox.get("it")

    def kept_by(self, make: Callable[[Runtime], K]) -> K:
        """Return what keeps its durable tasks.

        Args:
            make: makes that, without doing anything else: of what two threads have made one is
                thrown away.
        """
        found: K | None = self._outbox.get("it")
        return self._outbox.setdefault("it", make(self)) if found is None else found

    def sent_by(self, make: Callable[[Runtime], S]) -> S:
        """Return its engines; as `kept_by`."""
        found: S | None = self._engines.get("it")
        return self._engines.setdefault("it", make(self)) if found is None else found

    @property
    def name(self) -> str:
        """What tells the application from others; empty if nothing does."""
        return self.settings.name or self.hooks.name

    @property
    def replaces_others(self) -> bool:
        """Whether another application of the same name is an earlier one of it."""
        return bool(self.settings.name) or self.hooks.is_only_one

    @property
    def drain_timeout(self) -> float:
        """The seconds that a shutdown waits for tasks."""
        return self.settings.drain_timeout

    def check_options(self, options: Options) -> None:
        """Check what options can only mean in this application.

        Raises:
            TypeError: a limit that the setting ``concurrency`` does not name, or a time without a
                time zone.
        """
        limit, time = options.concurrency, options.run_after
        if options.durable and self.settings.store is None:
            raise TypeError(
                "options(durable=True): the setting 'store' is to say where tasks are kept, such "
                "as store='sqlite:///tasks.db'"
            )
        if limit is not None and limit not in self.settings.concurrency:
            known = ", ".join(map(repr, self.settings.concurrency)) or "no limit"
            raise TypeError(
                f"options(concurrency={limit!r}): the setting 'concurrency' names {known}. Add "
                f"it there: concurrency={{{limit!r}: 4}}"
            )
        if time is not None and time.utcoffset() is None:
            takes_naive = self.hooks.takes_naive_times
            if takes_naive is None or not takes_naive():
                raise TypeError(
                    f"options(run_after={time!r}) has no time zone, so that nobody knows when that "
                    "is. Write datetime.now(timezone.utc) + ..., or time.astimezone()"
                )

    def controlled(self, task: Task, batch: Batch, outer: Iterable[Feature] = ()) -> Task:
        """Return a task that is being added to a batch as what its options make of it.

        Args:
            task: the task.
            batch: what it is added to.
            outer: features outside of those of its options. Default: none.
        """
        import_whole("bgadapters.core.app.control")
        from bgadapters.core.app.control import controlled

        return controlled(task, batch, self.scheduler, outer)

    def handle_sigterm(self) -> None:
        """Have SIGTERM drain where it would kill this process, unless a setting says not to.

        Called when an application is set up, for only the main thread can do it.
        """
        if self.settings.handle_sigterm:
            signals.end_on_sigterm(shutdown.has_pending_work, self.settings.drain_timeout)

    def has_work(self) -> bool:
        """Whether tasks wait or run."""
        return bool(self.in_flight.live())

    def drain(self, timeout: float | None = None) -> list[str]:
        """Wait until every released task has finished, then give up on the rest.

        Args:
            timeout: seconds. Default: the setting ``drain_timeout``.

        Returns:
            The names of the tasks that were abandoned; they were logged at WARNING.

        Raises:
            RuntimeError: a task calls it, which it would wait for itself.
        """
        refuse_in_task("drain()")
        abandoned = self.drainer.drain(self.drain_timeout if timeout is None else timeout)
        if self.outbox is not None:
            self.outbox.settle(_SETTLING)
        return abandoned

    async def adrain(self, timeout: float | None = None) -> list[str]:
        """Do as `drain`, without blocking the event loop."""
        refuse_in_task("adrain()")
        abandoned = await self.drainer.adrain(self.drain_timeout if timeout is None else timeout)
        if self.outbox is not None:
            await self.outbox.asettle(_SETTLING)
        return abandoned

    def drain_at_exit(self, timeout: float, is_quiet: bool = False) -> list[str]:
        """Do as `drain` when the process ends: nobody else will run the loops that have stopped.

        Unless ``is_quiet``, a WARNING says after a second what is waited for.
        """
        abandoned = self.drainer.drain_at_exit(timeout, is_quiet)
        if self.outbox is not None:
            self.outbox.settle(_SETTLING)
        return abandoned

    def close(self) -> None:
        """The process ends: durable tasks that are left are for others to run."""
        if self.outbox is not None:
            self.outbox.close(_SETTLING)
        for engines in self._engines.values():
            engines.close()

    def reset_after_fork(self) -> None:
        """In a forked child: drop what belongs to the parent's threads."""
        self._has_looked_at_sigterm = False
        self.events.totals.reset_after_fork()
        self.scheduler.reset_after_fork()
        if self.outbox is not None:
            self.outbox.reset_after_fork()
        for engines in self._engines.values():
            engines.reset_after_fork()

    @property
    def is_ending(self) -> bool:
        """Whether a drain is under way, or nothing more is to be begun here."""
        return self.scheduler.later.is_draining or self.is_shut_down or host.is_ending()

    @property
    def room(self) -> int:
        """How many tasks of others it should take on now."""
        return max(1, self.settings.max_pending // 2) - self.in_flight.in_use

    def _register(self) -> None:
        shutdown.register(self)
        if self.hooks.installation is not None and mode.active.drains_on_signals:
            self._look_at_sigterm(self.hooks.installation)

    def _look_at_sigterm(self, installation: Installation) -> None:
        """Say at the first task of a process if SIGTERM would kill it, and what to change."""
        if self._has_looked_at_sigterm or not self.settings.handle_sigterm:
            return
        self._has_looked_at_sigterm = True
        self.handle_sigterm()  # where a server has one thread, this is the main thread
        advice = installation.advice() if signals.sigterm_kills() else None
        if advice is not None:
            guard.log(
                logging.WARNING,
                "SIGTERM would end this process at once, and tasks that wait or run then would be "
                "lost. %s",
                advice,
            )

    def _give_up_loop(self, loop: object) -> None:
        self.drainer.give_up_loop(loop, self.drain_timeout)


def _warn_of_a_shorter_grace_period(drain_timeout: float) -> None:
    seconds, options = host.grace_period() or (drain_timeout, "")
    if seconds < drain_timeout:
        guard.log(
            logging.WARNING,
            "The server gives a process that ends %.3g s, less than drain_timeout, %.3g s: "
            "tasks that take longer would be lost without a word. Raise %s, "
            "or lower drain_timeout",
            seconds,
            drain_timeout,
            options,
        )


def check_token() -> str | None:
    """Return the secret that a request of ``bgadapters.check`` carries; None if there is none.

    No frame of the error holds the secret: error pages show what frames hold.

    Raises:
        SettingsError: it could be guessed, or would not fit into a header.
    """
    if not _is_good_token(os.environ.get(CHECK_TOKEN)):
        raise SettingsError(
            f"{CHECK_TOKEN} accepts at least 16 characters out of A-Z a-z 0-9 _ -; the value in "
            "the environment is shorter, or has others. Set it to $(openssl rand -hex 16), or "
            "unset it: only a check of this deployment needs it"
        )
    return os.environ.get(CHECK_TOKEN) or None


def _is_good_token(token: str | None) -> bool:
    return not token or re.fullmatch(r"[\w-]{16,}", token, re.ASCII) is not None


_numbers = count()
_made: dict[int, ref[Runtime]] = {}  # in their order; changed in single steps, without a lock


def _note(runtime: Runtime) -> None:
    number = next(_numbers)
    _made[number] = ref(runtime, lambda _: _made.pop(number, None))


def runtimes() -> list[Runtime]:
    """Return the applications of this process, in the order they were set up in."""
    found = (each() for each in list(_made.values()))
    return [runtime for runtime in found if runtime is not None]


_default: dict[str, Runtime] = {}  # without a lock, which a fork or a signal might find held


def default_runtime() -> Runtime:
    """The runtime of queues that belong to no configured application: one per process."""
    try:
        return _default["it"]
    except KeyError:
        return _default.setdefault("it", Runtime())
