"""What `add_task` does for a task with the option ``durable``, and for no other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import mode
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import owner
from bgadapters.core.model.control import Feature
from bgadapters.core.model.options import Options, TaskOptions
from bgadapters.core.model.payload import check_packable
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.task import Task
from bgadapters.core.outbox.durable import Kept
from bgadapters.core.outbox.outbox import Outbox, is_for_commit, outbox_of


class Keeping:
    """One durable task on its way into a queue.

    In a test it is a plain one, of which is checked that it could be kept.

    Args:
        runtime: its application.
        given: the options that were given at the call.
        options: all of its options.

    Attributes:
        kept: its row; None in a test, where it has none.

    Raises:
        TypeError: it is to be in a session's transaction, and is not for its commit.
    """

    __slots__ = ("_given", "_is_shared", "_outbox", "_runtime", "_session", "_waits", "kept")

    def __init__(self, runtime: Runtime, given: TaskOptions, options: Options) -> None:
        self._runtime = runtime
        self._given = given
        self._session, self._waits = options.session, options.on_commit
        if self._session is not None and not is_for_commit(options):
            raise TypeError(
                f"options(session=..., on_commit={options.on_commit}, run_on={options.run_on!r}) "
                "contradicts itself: what is kept in the session's transaction is gone if that is "
                "rolled back, and so it runs if that commits. Leave session= away, or give "
                "on_commit=True and run_on='success'"
            )
        self._outbox: Outbox | None = outbox_of(runtime) if mode.active is mode.SERVING else None
        self.kept: Kept | None = None
        self._is_shared = False

    def features(self, func: Any) -> Sequence[Feature]:
        """Return what a task of this function has beside its options.

        Raises:
            NotPortableError, TypeError, StoreUnavailableError: it cannot be kept.
        """
        if self._outbox is None:
            return ()
        self.kept = self._outbox.kept(func)
        return (self.kept,)

    def prepare(self, batch: Batch, task: Task) -> None:
        """Make its row, or see that one could be made.

        Raises:
            NotPortableError, TypeError: it cannot be kept, or the store knows no such session.
        """
        if self._outbox is None or self.kept is None:
            modules = self._runtime.settings.task_modules
            check_packable(task.unwrap(), modules, self._given.given)
        else:
            self.kept.row = (self._outbox.row(task, batch, self._given),)
            self._is_shared = self._outbox.shares_transaction(task.options, self._session)

    def preconditions(self, batch: Batch) -> Sequence[Precondition]:
        """Return what it waits for besides its response: the commit in which its row is written."""
        if self._outbox is None or not self._waits:
            return ()
        return self._outbox.preconditions(batch, self._session)

    def keep(self, batch: Batch, task: Task, is_of_response: bool) -> None:
        """It was put into a batch: have it kept.

        In an open transaction, before its response, or soon.

        Args:
            batch: the batch.
            task: the task.
            is_of_response: whether that is the batch of the response being made.

        Raises:
            StoreUnavailableError: the store refuses it in the transaction that is open here.
        """
        outbox, kept = self._outbox, self.kept
        if outbox is None or kept is None:
            return
        try:
            if self._is_shared:
                outbox.keep_here(kept, self._session)
            elif not (is_of_response and not batch.is_live and batch.confirm_with(task, kept)):
                outbox.keep(kept)
        except BaseException:
            self._runtime.admission.retract(batch, task)
            raise


def add_usual(  # noqa: PLR0917  what `add_task` knows
    runtime: Runtime,
    batch: Batch,
    given: TaskOptions,
    options: Options,
    call: tuple[Any, tuple[Any, ...], dict[str, Any]],
    is_async: bool,
) -> Task | None:
    """Add a durable task to the response that is being made, if nothing more is asked of it.

    Args:
        runtime: its application.
        batch: that of the response.
        given: the options that were given at the call.
        options: all of its options.
        call: the function, its positional arguments and its keyword arguments.
        is_async: whether that belongs on an event loop.

    Returns:
        The task; None if it was not added, as it is to be added with all that may be asked for.

    Raises:
        NotPortableError, StoreUnavailableError: it cannot be kept.
        QueueClosedError: the batch was released or closed.
    """
    if (
        mode.active is not mode.SERVING
        or batch.is_live
        or owner.get() is not None
        or runtime.is_strict
        or runtime.settings.on_full == "reject"
    ):
        return None
    outbox = outbox_of(runtime)
    task = outbox.usual_task(batch, call, given, options, is_async)
    if task is None:
        return None
    batch.add(task)
    if not batch.confirm_with(task, task):  # it was released meanwhile
        outbox.keep(task)
    return task
