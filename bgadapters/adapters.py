"""The API for authors of shims: what connects a framework to background tasks.

A shim opens a queue for each response, hands it to the view and releases it with the response.
``docs/writing-a-shim.md`` is the checklist. What is not here or in ``bgadapters`` itself is
internal, and may change in any release.
"""

from typing import TYPE_CHECKING, Any

from bgadapters.core.api.awaited import awaits_tasks, check_drain_is_certain
from bgadapters.core.api.check import answer_check
from bgadapters.core.api.current import (
    current_queue,
    enter,
    enter_call,
    find_with,
    found,
    leave,
    leave_call,
)
from bgadapters.core.api.elsewhere import enter as enter_elsewhere
from bgadapters.core.api.enqueue import make_own_queues
from bgadapters.core.api.extras import explain_missing
from bgadapters.core.api.held import arelease_response, release_response
from bgadapters.core.api.lazy import LazyBatch
from bgadapters.core.api.live import LiveTasks
from bgadapters.core.api.serving import check_store, prepare_loops, start_serving
from bgadapters.core.api.tasks import BackgroundTasks, WithOptions
from bgadapters.core.api.unclosed import settle_unclosed
from bgadapters.core.app.instrument import (
    add_carrier,
    add_middleware,
    remove_carrier,
    remove_middleware,
    subscribe,
    unsubscribe,
)
from bgadapters.core.app.runtime import Runtime, default_runtime, runtimes
from bgadapters.core.drivers.loops import loop_runs_here, running_loop
from bgadapters.core.drivers.pool import Pool, runs_in_worker
from bgadapters.core.host import closes_with_the_call, threads_are_greenlets
from bgadapters.core.model import mode
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.context import task_running_here
from bgadapters.core.model.errors import (
    BackgroundTasksError,
    EngineUnavailableError,
    NoResponseError,
    NotPortableError,
    PreconditionFailedError,
    QueueClosedError,
    QueueFullError,
    SettingsError,
    StoreUnavailableError,
    UnavailableError,
)
from bgadapters.core.model.event import EventHook, Kind, TaskEvent, TaskObserver
from bgadapters.core.model.guard import exceptions_of, log
from bgadapters.core.model.hooks import Bridge, FrameworkHooks, Installation, Signals
from bgadapters.core.model.instrumentation import was_told
from bgadapters.core.model.late import import_whole
from bgadapters.core.model.lines import escaped
from bgadapters.core.model.marks import marked_options
from bgadapters.core.model.middleware import Around, TaskInfo, TaskMiddleware
from bgadapters.core.model.options import OptionNames, Options, TaskOptions
from bgadapters.core.model.precondition import Precondition
from bgadapters.core.model.record import Outcome
from bgadapters.core.model.settings import SettingNames, Settings, parse_settings
from bgadapters.core.model.task import Call, Task, TaskWrapper, callable_name
from bgadapters.core.process.fork import reset_in_child

if TYPE_CHECKING:
    from bgadapters.core.outbox.board import StoredTask, StoredTasks
    from bgadapters.core.outbox.renewal import Renewal
    from bgadapters.core.outbox.store import Change, Row, State, Store
    from bgadapters.core.sending.alone import run_alone
    from bgadapters.core.sending.arrivals import Arrivals
    from bgadapters.core.sending.engine import (
        Ability,
        Engine,
        Message,
        Run,
        RunningEngine,
        SentByCommit,
    )
    from bgadapters.core.sending.errors import KeyIsTaken, RefusedError, RetryLater, as_failure

__all__ = [
    "Ability",
    "Around",
    "Arrivals",
    "BackgroundTasks",
    "BackgroundTasksError",
    "Batch",
    "Bridge",
    "Call",
    "Change",
    "Engine",
    "EngineUnavailableError",
    "EventHook",
    "FrameworkHooks",
    "Installation",
    "KeyIsTaken",
    "Kind",
    "LazyBatch",
    "LiveTasks",
    "Message",
    "NoResponseError",
    "NotPortableError",
    "OptionNames",
    "Options",
    "Outcome",
    "Pool",
    "Precondition",
    "PreconditionFailedError",
    "QueueClosedError",
    "QueueFullError",
    "RefusedError",
    "Renewal",
    "RetryLater",
    "Row",
    "Run",
    "RunningEngine",
    "Runtime",
    "SentByCommit",
    "SettingNames",
    "Settings",
    "SettingsError",
    "Signals",
    "State",
    "Store",
    "StoreUnavailableError",
    "StoredTask",
    "StoredTasks",
    "Task",
    "TaskEvent",
    "TaskInfo",
    "TaskMiddleware",
    "TaskObserver",
    "TaskOptions",
    "TaskWrapper",
    "UnavailableError",
    "WithOptions",
    "add_carrier",
    "add_middleware",
    "answer_check",
    "arelease_response",
    "as_failure",
    "awaits_tasks",
    "callable_name",
    "check_drain_is_certain",
    "check_store",
    "closes_with_the_call",
    "current_queue",
    "default_runtime",
    "enter",
    "enter_call",
    "enter_elsewhere",
    "escaped",
    "exceptions_of",
    "explain_missing",
    "find_with",
    "found",
    "leave",
    "leave_call",
    "log",
    "loop_runs_here",
    "make_own_queues",
    "marked_options",
    "mode",
    "parse_settings",
    "prepare_loops",
    "release_response",
    "remove_carrier",
    "remove_middleware",
    "reset_in_child",
    "run_alone",
    "running_loop",
    "runs_in_worker",
    "runtimes",
    "settle_unclosed",
    "start_serving",
    "subscribe",
    "task_running_here",
    "threads_are_greenlets",
    "unsubscribe",
    "was_told",
]

_WHERE = {
    "Ability": "sending.engine",
    "Arrivals": "sending.arrivals",
    "Change": "outbox.store",
    "Engine": "sending.engine",
    "KeyIsTaken": "sending.errors",
    "Message": "sending.engine",
    "RefusedError": "sending.errors",
    "Renewal": "outbox.renewal",
    "RetryLater": "sending.errors",
    "Run": "sending.engine",
    "Row": "outbox.store",
    "RunningEngine": "sending.engine",
    "SentByCommit": "sending.engine",
    "State": "outbox.store",
    "Store": "outbox.store",
    "StoredTask": "outbox.board",
    "StoredTasks": "outbox.board",
    "as_failure": "sending.errors",
    "run_alone": "sending.alone",
}
"""For authors of stores and engines. Without those nothing of this is imported."""

if not TYPE_CHECKING:  # to a type checker it would say that there is any name

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_whole(f"bgadapters.core.{_WHERE[name]}"), name)
