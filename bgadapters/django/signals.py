"""A signal for each thing that happens to a task.

::

    @receiver(task_failed, sender=send_welcome)
    def tell_support(sender, event, **kwargs):
        ...  # event.task, event.exception: see `bgadapters.TaskEvent`

The sender is the function that was added. Receivers of ``task_added`` are called where the task is
added, in the request and its transaction. All others are called where the ORM can be used: in the
worker thread that has run the task, or in a thread of their own. One that raises is logged by
Django, and costs no task.
"""

from __future__ import annotations

from collections.abc import Callable

from django.dispatch import Signal

from bgadapters.adapters import EventHook, Kind, TaskEvent

task_added = Signal()
task_started = Signal()
task_succeeded = Signal()
task_failed = Signal()
task_discarded = Signal()
task_abandoned = Signal()
task_sent = Signal()

SIGNALS: dict[Kind, Signal] = {
    "added": task_added,
    "started": task_started,
    "succeeded": task_succeeded,
    "failed": task_failed,
    "discarded": task_discarded,
    "abandoned": task_abandoned,
    "sent": task_sent,
}


class TaskSignals:
    """Sends the signals of what happens to tasks.

    Args:
        call: calls what sends one for an event, in the right place.
    """

    def __init__(self, call: Callable[[EventHook, TaskEvent], None]) -> None:
        self._call = call

    def has_receivers(self, *kinds: Kind) -> bool:
        """Whether anybody receives those of events of these kinds; of any, if none is given."""
        if not kinds:  # asked for each task that is added: written out, it costs a third
            return bool(
                task_added.receivers
                or task_started.receivers
                or task_succeeded.receivers
                or task_failed.receivers
                or task_discarded.receivers
                or task_abandoned.receivers
                or task_sent.receivers
            )
        for kind in kinds:  # noqa: SIM110  a generator would cost each task more
            if kind in SIGNALS and SIGNALS[kind].receivers:
                return True
        return False

    def on_event(self, event: TaskEvent) -> None:
        """Send the signal of an event, if anybody receives it."""
        if self.has_receivers(event.kind):
            self._call(_send, event)


def _send(event: TaskEvent) -> None:
    SIGNALS[event.kind].send_robust(sender=event.task.func, event=event)
