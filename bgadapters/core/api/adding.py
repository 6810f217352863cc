"""What `add_task` does for a task that is kept or goes elsewhere, and for no other."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.control import Feature
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.options import LOCAL, Options, TaskOptions
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.task import Task

if TYPE_CHECKING:
    from bgadapters.core.api.keeping import Keeping
    from bgadapters.core.sending.sending import Sending


@cache  # to import it each time would cost more than what it does
def _keeping() -> type[Keeping]:
    import_whole("bgadapters.core.api.keeping")
    from bgadapters.core.api.keeping import Keeping

    return Keeping


class Adding:
    """One task with the option ``durable`` or ``engine`` on its way into a queue.

    Args:
        runtime: its application.
        given: the options that were given at the call.
        options: all of its options.
        func: what is to be called.
        is_async: whether that belongs on an event loop.

    Attributes:
        options: those that the task keeps in this process.
        func: what is to be called in this process.
        is_async: whether that belongs on an event loop.

    Raises:
        TypeError, NotPortableError: it cannot be sent.
    """

    def __init__(
        self, runtime: Runtime, given: TaskOptions, options: Options, func: Any, is_async: bool
    ) -> None:
        self._given_func = func
        self.func, self.is_async = func, is_async
        self._keeping: Keeping | None = None
        self._sending: Sending | None = None
        if options.durable:
            self._keeping = _keeping()(runtime, given, options)
        if options.engine != LOCAL:
            import_whole("bgadapters.core.sending.sending")
            from bgadapters.core.sending.sending import Sending

            self._sending = Sending(runtime, given, options, func, is_async)
            self.func, self.is_async = self._sending.func, self._sending.is_async
            options = self._sending.options
        # No session outlives its response.
        self.options = options if options.session is None else options._replace(session=None)

    def features(self) -> Sequence[Feature]:
        """Return what it has beside its options.

        Raises:
            NotPortableError, TypeError, StoreUnavailableError: it cannot be kept.
        """
        keeping, sending = self._keeping, self._sending
        kept = () if keeping is None else keeping.features(self._given_func)
        if sending is None:
            return kept
        return (*kept, *sending.features(None if keeping is None else keeping.kept))

    def prepare(self, batch: Batch, task: Task) -> Sequence[Precondition]:
        """Make its row and its message, or see that they could be made.

        Returns:
            What it waits for besides its response: the commit in which its row is written, or
            which sends it.

        Raises:
            NotPortableError, TypeError: they cannot.
        """
        sent = () if self._sending is None else self._sending.prepare(batch, task)
        if self._keeping is None:
            return sent
        self._keeping.prepare(batch, task)
        return self._keeping.preconditions(batch)

    def keep(self, batch: Batch, task: Task, is_of_response: bool) -> None:
        """It was put into a batch: have it kept.

        Args:
            batch: the batch.
            task: the task.
            is_of_response: whether that is the batch of the response being made.

        Raises:
            StoreUnavailableError: the store refuses it in the transaction that is open here.
        """
        if self._keeping is not None:
            self._keeping.keep(batch, task, is_of_response)

    def added(self, batch: Batch, task: Task, is_of_response: bool) -> None:
        """That it was added was told: have it sent before its response, or tell that it was sent.

        Args:
            batch: as for `keep`.
            task: as for `keep`.
            is_of_response: as for `keep`.
        """
        if self._sending is not None:
            self._sending.added(batch, task, is_of_response)
