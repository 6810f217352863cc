"""What a process does that serves an application with a store of durable tasks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.drivers.loops import running_loop
from bgadapters.core.model.late import import_whole

_FOR_LOOPS = "bgadapters.core.drivers.origin_loop", "bgadapters.core.drivers.loop_time_limit"


def prepare_loops() -> None:
    """Import what runs tasks on event loops. To be called where such a loop will serve.

    When the first task comes no file may be left to be opened.
    """
    for name in _FOR_LOOPS:
        import_whole(name)


def start_serving(runtime: Runtime, find_loop: Callable[[], Any] = running_loop) -> None:
    """This process serves an application: durable tasks that were left behind run here.

    To be called when a server starts or for each request. It does nothing without the setting
    ``store``, and nothing but look the second time.

    Args:
        runtime: the application.
        find_loop: returns the event loop on which their async functions run; None where none
            serves. Called the first time. Default: the one that runs here.

    Raises:
        SettingsError: the setting names no store.
    """
    kept = runtime.outbox
    if runtime.settings.store is None or (kept is not None and kept.serves):
        return
    from bgadapters.core.outbox.outbox import outbox_of

    outbox_of(runtime).serve(find_loop())


def check_store(runtime: Runtime) -> None:
    """Check that the store of an application can be used, if it has one.

    Raises:
        StoreUnavailableError: it cannot.
        SettingsError: it is of a newer version, or the setting names none.
    """
    if runtime.settings.store is not None:
        from bgadapters.core.outbox.outbox import outbox_of

        outbox_of(runtime).check_store()
