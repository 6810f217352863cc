"""What one application runs with, put together."""

from __future__ import annotations

import logging
import os
import re
import threading

from bgadapters.core import host
from bgadapters.core.app.drainer import Drainer
from bgadapters.core.app.scheduler import Scheduler
from bgadapters.core.model import guard
from bgadapters.core.model.errors import NOT_A_FIELD, SettingsError
from bgadapters.core.model.events import Events
from bgadapters.core.model.hooks import FrameworkHooks
from bgadapters.core.model.settings import Settings
from bgadapters.core.process import shutdown, signals

CHECK_TOKEN = "BGADAPTERS_CHECK_TOKEN"  # noqa: S105  the variable's name


class Runtime:
    """One application's workers and policies; applications in one process share none of it.

    Nothing is started before the first task is released.

    Args:
        settings: see `Settings`. Default: its defaults.
        hooks: what the framework does around tasks. Default: nothing.

    Attributes:
        adds_plainly: whether a task is added without a hook, a check or a bound.
        hears_shutdown: whether the server has begun the lifespan protocol.

    Raises:
        SettingsError: the environment's token for the check could be guessed.
    """

    def __init__(
        self, settings: Settings | None = None, hooks: FrameworkHooks | None = None
    ) -> None:
        self.settings = settings or Settings()
        self.hooks = (hooks or FrameworkHooks()).completed(self.settings.on_commit)
        self.is_strict = self.settings.strict_portable
        self.events = Events(self.settings.on_event, self.settings.on_error, self.hooks.signals)
        self.scheduler = Scheduler(
            self.settings, self.hooks, self.events, self._register, self._give_up_loop
        )
        self.in_flight = self.scheduler.in_flight
        self.drainer = Drainer(self.scheduler.execution, self.scheduler.timer, self.scheduler.pool)
        self.adds_plainly = not (
            self.is_strict
            or self.events.has_hooks
            or self.settings.on_full == "reject"
            or self.hooks.snapshot
            or self.hooks.context
            or self.hooks.preconditions
        )
        self.check_token = checked_token(os.environ.get(CHECK_TOKEN))
        self.hears_shutdown = False
        _warn_of_a_shorter_grace_period(self.settings.drain_timeout)

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: object) -> None:
        """Refuse: pydantic asks for this where a queue's own type is given to Depends."""
        raise TypeError(NOT_A_FIELD)

    @property
    def drain_timeout(self) -> float:
        """The seconds that a shutdown waits for tasks."""
        return self.settings.drain_timeout

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
        """
        return self.drainer.drain(self.drain_timeout if timeout is None else timeout)

    async def adrain(self, timeout: float | None = None) -> list[str]:
        """Do as `drain`, without blocking the event loop."""
        return await self.drainer.adrain(self.drain_timeout if timeout is None else timeout)

    def drain_at_exit(self, timeout: float, is_quiet: bool = False) -> list[str]:
        """Do as `drain` when the process ends: nobody else will run the loops that have stopped.

        Unless ``is_quiet``, a WARNING says after a second what is waited for.
        """
        return self.drainer.drain_at_exit(timeout, is_quiet)

    def reset_after_fork(self) -> None:
        """In a forked child: drop what belongs to the parent's threads."""
        self.scheduler.reset_after_fork()

    def _register(self) -> None:
        shutdown.register(self)

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


def checked_token(token: str | None) -> str | None:
    """Return the secret that a request of ``bgadapters.check`` carries; None if there is none.

    Raises:
        SettingsError: it could be guessed, or would not fit into a header.
    """
    if token and re.fullmatch(r"[\w-]{16,}", token, re.ASCII) is None:
        raise SettingsError(
            f"{CHECK_TOKEN} accepts at least 16 characters out of A-Z a-z 0-9 _ -; what it has "
            f"are {len(token)}, or others"
        )
    return token or None


_default_lock = threading.Lock()
_default: Runtime | None = None  # guarded by _default_lock


def default_runtime() -> Runtime:
    """The runtime of queues that belong to no configured application: one per process."""
    global _default
    with _default_lock:
        if _default is None:
            _default = Runtime()
        return _default
