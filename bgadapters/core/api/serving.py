"""What a process does that serves an application with a store of durable tasks."""

from __future__ import annotations

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.drivers.loops import running_loop


def start_serving(runtime: Runtime) -> None:
    """This process serves an application: durable tasks that were left behind run here.

    To be called when a server starts or for each request. It does nothing without the setting
    ``store``, and nothing but look the second time. Their async functions run on the event loop
    that runs here, if one does.
    """
    if runtime.settings.store is not None:
        from bgadapters.core.outbox.outbox import outbox_of

        outbox_of(runtime).serve(running_loop())


def check_store(runtime: Runtime) -> None:
    """Check that the store of an application can be used, if it has one.

    Raises:
        StoreUnavailableError: it cannot.
        SettingsError: it is of a newer version, or the setting names none.
    """
    if runtime.settings.store is not None:
        from bgadapters.core.outbox.outbox import outbox_of

        outbox_of(runtime).check_store()
