"""A queue by itself, where no request is: in management commands, scripts and threads."""

from __future__ import annotations

from django.conf import settings

from bgadapters import adapters
from bgadapters.django.runtime import get_runtime


class BackgroundTasks(adapters.BackgroundTasks):
    """`bgadapters.BackgroundTasks` with Django's settings, transactions and connections.

    ::

        with transaction.atomic(), BackgroundTasks() as tasks:
            tasks.add_task(remind, invoice.pk)  # runs when the transaction has committed

    Raises:
        ImproperlyConfigured: an unknown or impossible setting.
    """

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(runtime=get_runtime())


def _own_queue() -> BackgroundTasks | None:
    """The queue of `bgadapters.enqueue`, where Django is more than an import."""
    return BackgroundTasks() if settings.configured else None


adapters.make_own_queues(_own_queue, is_fallback=True)
