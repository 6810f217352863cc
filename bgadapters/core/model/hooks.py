"""What a framework gives its runtime: one object, with a name for each hook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from bgadapters.core.model.batch import Batch
    from bgadapters.core.model.event import Kind, TaskEvent
    from bgadapters.core.model.precondition import Precondition


class Bridge(NamedTuple):
    """How a framework whose connections belong to threads keeps a test's tasks to its thread."""

    to_async: Callable[[Callable[..., Any]], Callable[..., Awaitable[Any]]]
    """Makes a function to be awaited, which is run in the thread that waits for the loop."""
    to_sync: Callable[[Callable[..., Awaitable[Any]]], Callable[..., Any]]
    """Makes a coroutine function one that blocks until it has run."""


class Signals(Protocol):
    """The signals of a framework that tell of tasks."""

    def has_receivers(self, *kinds: Kind) -> bool:
        """Whether anyone receives those of events of these kinds; of any, if none is given."""
        ...

    def on_event(self, event: TaskEvent) -> None:
        """Send what an event is about."""
        ...


class Installation(NamedTuple):
    """How to install the library, for a framework in which there are several ways."""

    missing: Callable[[], str | None]
    """Tells what to add, so that the server does not matter; None if nothing is missing."""
    advice: Callable[[], str | None]
    """Tells what to change in this process, which SIGTERM would kill; None if no task is lost."""


class FrameworkHooks(NamedTuple):
    """What a framework does around tasks. All of them are optional.

    Attributes:
        scope: entered around each sync task, inside the task's context.
        ascope: entered around each async task, inside the task's context. Default: ``scope``.
        hook_scope: entered around the application's hooks that are told of a task, inside the
            task's context or a copy of it. Default: nothing is.
        enter_to_log: called before something is logged of a task, in a copy of the task's context
            in which only that is done, and the hooks of a failure are called: so nothing undoes
            it. Default: nothing is called.
        context: called by ``add_task`` for the context that the task runs in, a new one each time.
            It may have in context variables what the framework keeps elsewhere. Default: a copy of
            the current one.
        preconditions: called by ``add_task`` for what the task has to wait for, besides its
            response, if the setting ``on_commit`` is on.
        on_idle: called in a worker thread that has had nothing to do for a while, and in all of
            them when a drain has found nothing left.
        bridge: how tasks keep to the thread of a test. Default: they need not.
        signals: told of events before the application's own hooks. Default: none.
        installation: how the library is installed, where that matters. Default: it does not.
        carry: returns what of the request a task should see that runs in another process, as
            JSON. Default: nothing is carried.
        restore: leaves in context variables what ``carry`` has returned there.
        before_recovery: called in a thread before tasks of other processes are taken for the first
            time, to import what has their functions. Default: nothing is to be imported.
        in_child: names, as ``module:function``, what sets the framework up in a process that was
            started for tasks, and returns these hooks there; and its arguments. Default: nothing
            is set up.
        name: what the framework calls the application. Default: nothing.
        is_only_one: whether a process has one application of the framework, so that a later one
            takes the place of another. Default: it may have several.
        takes_naive_times: tells whether a time without a time zone is accepted, as the local
            one. Default: it is not.
    """

    scope: Callable[[], AbstractContextManager[Any]] | None = None
    ascope: Callable[[], AbstractAsyncContextManager[Any]] | None = None
    hook_scope: Callable[[], AbstractContextManager[Any]] | None = None
    enter_to_log: Callable[[], object] | None = None
    context: Callable[[], Context] | None = None
    preconditions: Callable[[Batch], Iterable[Precondition]] | None = None
    on_idle: Callable[[], None] | None = None
    bridge: Bridge | None = None
    signals: Signals | None = None
    installation: Installation | None = None
    takes_naive_times: Callable[[], bool] | None = None
    carry: Callable[[], Any] | None = None
    restore: Callable[[Any], None] | None = None
    before_recovery: Callable[[], object] | None = None
    in_child: tuple[str, ...] | None = None
    name: str = ""
    is_only_one: bool = False

    def completed(self, uses_preconditions: bool) -> FrameworkHooks:
        """Return the same with ``ascope`` made of ``scope``; without preconditions if unused."""
        ascope = self.ascope
        if ascope is None and self.scope is not None:
            ascope = _as_async(self.scope)
        preconditions = self.preconditions if uses_preconditions else None
        return self._replace(ascope=ascope, preconditions=preconditions)


def _as_async(
    scope: Callable[[], AbstractContextManager[Any]],
) -> Callable[[], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def ascope() -> AsyncIterator[None]:
        with scope():
            yield

    return ascope
