"""The mode of a test: tasks run in the thread that releases them, or are kept; all are recorded."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Protocol
from weakref import ReferenceType, WeakKeyDictionary, ref

from bgadapters.core.api import current
from bgadapters.core.api.tasks import BackgroundTasks
from bgadapters.core.app.scheduler import Scheduler
from bgadapters.core.drivers.loops import loop_runs_here
from bgadapters.core.host import imported
from bgadapters.core.model import mode
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.event import TaskEvent
from bgadapters.core.model.task import Task
from bgadapters.core.process import fork
from bgadapters.testing import wsgi


class Observer(Protocol):
    """Who records the tasks of a test. It is called from any thread."""

    strict_portable: bool
    """Whether ``add_task`` refuses what is not portable, as with the setting."""
    real_time: bool
    """Whether tasks wait for their time, and between two attempts, as in a server."""

    @property
    def keeps_tasks(self) -> bool:
        """Whether `intercepts` keeps them from running, until the test has them run together."""
        ...

    def added(self, batch: Batch, task: Task, scheduler: Scheduler) -> None:
        """A task was put into a batch."""
        ...

    def on_event(self, event: TaskEvent) -> None:
        """Something else happened to a task."""
        ...

    def intercepts(self, batch: Batch, scheduler: Scheduler) -> bool:
        """Whether the tasks of a batch that was just released are kept from running.

        They are taken out of it, to be put back.
        """
        ...


class UnderTest(mode.Serving):
    """Runs tasks as a test needs them.

    Where no event loop runs, the thread that releases a batch runs it to its end. The test's own
    thread is where its database transaction is.

    Args:
        observer: who records.
    """

    observes = True
    shares_connections = True
    awaits_tasks = True
    drains_on_signals = False

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self.on_event = observer.on_event  # type: ignore[method-assign]

    def added(self, batch: Batch, task: Task, scheduler: Scheduler) -> None:
        """Record; run what is added to a queue that has opened again."""
        self._observer.added(batch, task, scheduler)
        reference = _reopened.pop(batch, None)
        queue = None if reference is None else reference()
        if queue is not None:
            _reopen(queue)
            scheduler.release(batch)

    @property
    def strict_portable(self) -> bool:  # type: ignore[override]  # it may change in a test
        """That of the observer."""
        return self._observer.strict_portable

    @property
    def takes_time(self) -> bool:  # type: ignore[override]  # it may change in a test
        """Whether the observer says so."""
        return self._observer.real_time

    def intercepts(self, batch: Batch, scheduler: Scheduler) -> bool:
        """Keep the tasks, or run them here, though their time has not come."""
        if self._observer.intercepts(batch, scheduler):
            return True
        if batch.due is not None:
            if self._observer.real_time:
                return False
            batch.due = None
        bridge = scheduler.execution.hooks.bridge
        if not loop_runs_here():
            scheduler.enter(batch)
            scheduler.inline.run(batch, None if bridge is None else bridge.to_sync)
        elif bridge is not None:
            from bgadapters.core.drivers.bridged import run_bridged

            scheduler.enter(batch)
            scheduler.loops.drive(batch, partial(run_bridged, to_async=bridge.to_async))
        else:
            return False
        return True

    def before_release(self, batches: Sequence[Batch], scheduler: Scheduler) -> None:
        """Have their keys count before the first of them runs, as if they waited together.

        Their times are due at once, so that none is there any more when the next one comes.
        """
        if self._observer.real_time or self._observer.keeps_tasks:
            return
        for batch in batches:
            scheduler.turns.begin(batch, list(batch.waiting))

    def serve_wsgi(
        self, serve: Callable[..., Iterable[bytes]], environ: Any, start_response: Any
    ) -> Iterable[bytes]:
        """Close the response as soon as it is known: a test's client may never do it."""
        return wsgi.serve(serve, environ, start_response)

    def release_wsgi(self, release: Callable[[], None]) -> None:
        """Release in a thread if a test's coroutine has called the application."""
        wsgi.release(release)

    def drop_wsgi(self, settle: Callable[[], None]) -> None:
        """Do nothing: whoever judges the test names the tasks of what nobody has closed."""

    def end_response(self, request: Any, response: Any, finish: Callable[[], None]) -> None:
        """Finish a response that nobody closes in time."""
        from bgadapters.testing import django

        if django.is_to_be_finished(request, response, finish):
            finish()

    async def aend_response(
        self,
        request: Any,
        response: Any,
        finish: Callable[[], None],
        afinish: Callable[[], Awaitable[None]],
    ) -> None:
        """Do as `end_response`."""
        from bgadapters.testing import django

        if django.is_to_be_finished(request, response, finish):
            await afinish()

    def fail_response(self, request: Any, finish: Callable[[], None]) -> None:
        """Finish what nobody may close."""
        from bgadapters.testing import django

        if django.is_never_closed(request):
            finish()

    def keeps_open(self, queue: Any) -> bool:
        """Whether functions of ``on_commit`` are left, which the test may call: they may add."""
        from bgadapters.testing import django

        if not django.has_hooks_left():
            return False
        _reopen(queue)
        return True

    def end_stream(self, release: Callable[[], None]) -> None:
        """Release: a test has read the stream to its end."""
        release()

    async def aend_stream(self, release: Callable[[], Any]) -> None:
        """Release: a test has read the stream to its end."""
        await release()

    def releases_here(self) -> bool:
        """Whether tasks run in the thread that closes their response: always."""
        return True

    def own_connections(self, found: Sequence[Any]) -> Sequence[Any]:
        """Return none in the main thread: they are the test's, as for Django's own test client.

        What other threads leave open would keep the test's database from being removed.
        """
        return () if threading.current_thread() is threading.main_thread() else found

    def database_scope(self) -> AbstractContextManager[Any]:
        """Keep the queries of tasks out of ``assertNumQueries``."""
        from bgadapters.testing import django

        return django.uncounted()


_reopened: WeakKeyDictionary[Batch, ReferenceType[BackgroundTasks]] = WeakKeyDictionary()
"""The batches of queues whose response is complete, and that take tasks all the same."""


def _reopen(queue: BackgroundTasks) -> None:
    queue.batch = Batch(
        queue.batch.path, on_lost=queue.runtime.scheduler.on_lost, method=queue.batch.method
    )
    _reopened[queue.batch] = ref(queue)


_blocks: dict[object, UnderTest] = {}  # those that are open; the last one is in force


@contextmanager
def observed_by(observer: Observer, *, as_outermost: bool = False) -> Iterator[None]:
    """Have ``observer`` record during a block, instead of whoever does.

    Blocks need not end in the order in which they began: those of a test and of a fixture that
    outlasts it do not. A response that was begun in a block and that nobody closed, so that its
    queue was never left, is not the current one after it.

    Args:
        observer: who records.
        as_outermost: it is outside of the blocks that are open, and so has to wait for their end.
    """
    global _blocks
    if imported("django.core.signals") is not None:
        from bgadapters.testing import django

        django.listen()
    fork.reset_in_child(__name__, _reset_after_fork, fork.MODE)
    block, new = object(), UnderTest(observer)
    _blocks = {block: new, **_blocks} if as_outermost else {**_blocks, block: new}
    _activate()
    try:
        with current.kept():
            yield
    finally:
        _blocks = {other: mode for other, mode in _blocks.items() if other is not block}
        _activate()


def _activate() -> None:
    mode.activate(next(reversed(_blocks.values()), mode.SERVING))


def _reset_after_fork() -> None:
    """What a child tells would stay in its own memory, where nobody judges it."""
    _blocks.clear()
    _activate()
