"""Whether the ASGI call of a response waits for its tasks: the setting ``await_tasks``."""

from __future__ import annotations

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model import mode
from bgadapters.core.model.errors import SettingsError


def awaits_tasks(runtime: Runtime) -> bool:
    """Whether a call that has sent its response waits until the tasks have run.

    It need not where somebody else does: the lifespan protocol, at its end. A test looks at what
    tasks have done when its client returns, so there each call waits.
    """
    return (
        runtime.settings.await_tasks
        or mode.active.awaits_tasks
        or runtime.is_shut_down
        or not runtime.hears_shutdown
    )


def check_drain_is_certain(runtime: Runtime) -> None:
    """Check, before a response is made, that its tasks are waited for by somebody.

    Raises:
        SettingsError: its call is not to wait, and nothing tells that anybody else does.
    """
    if runtime.settings.await_tasks or mode.active.awaits_tasks or runtime.hears_shutdown:
        return
    raise SettingsError(
        "await_tasks=False was given, but the server has not begun the lifespan protocol here, so "
        "that nothing would wait for tasks when it ends. Accepted is a server that speaks it "
        "(uvicorn --lifespan on, hypercorn, granian; daphne does not), with the setting given to "
        "the outermost application, since a mounted one hears nothing of its end; in Django, the "
        "application of bgadapters.django.asgi; with a test client, a block such as 'with "
        "TestClient(app)', or the plugin of pytest. Otherwise leave await_tasks at True"
    )
