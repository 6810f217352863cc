"""One table of settings for every shim: names, types, defaults, checks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from threading import TIMEOUT_MAX
from typing import Any, Literal, NamedTuple, TypedDict

from bgadapters.core.model.errors import SettingsError
from bgadapters.core.model.event import EventHook
from bgadapters.core.model.middleware import Around, TaskInfo, TaskMiddleware, checked_middleware
from bgadapters.core.model.options import NO_OPTIONS, OptionNames, TaskOptions
from bgadapters.core.model.task import examined


class Settings(NamedTuple):
    """What one application runs with.

    The same names everywhere: keyword arguments of ``init_app`` and of the two
    middlewares, ``BACKGROUND_TASKS_<NAME>`` in Flask's config, keys of
    ``BACKGROUND_TASKS`` in Django's settings.
    """

    max_workers: int = 8
    """Threads that run sync tasks, at most. They start when they are first needed."""
    max_pending: int = 1000
    """Tasks that wait or run at one time, at most; see ``on_full``."""
    on_full: Literal["run", "reject"] = "run"
    """When ``max_pending`` is reached: ``"run"`` keeps whoever releases the queue until there is
    room, as long as tasks finish; ``"reject"`` makes ``add_task`` raise `QueueFullError`."""
    drain_timeout: float = 30.0
    """Seconds that a shutdown waits for tasks. 0 does not wait."""
    stall_warning: float = 10.0
    """Seconds after which one WARNING says that tasks wait while all workers are busy, and names
    what runs; or that an async task has not let its event loop go on, and where. 0 says nothing."""
    hold_response: bool = False
    """Whether tasks run before their response ends: for platforms that freeze a process as soon
    as it has answered. The end waits for at most ``drain_timeout`` seconds."""
    await_tasks: bool = True
    """Whether the ASGI call of a response waits for its tasks. With False it returns when the
    response is complete, so that servers, metrics and timeouts do not count them. A request is
    refused with `SettingsError` where the server has not begun the lifespan protocol: nothing would
    wait for tasks when it ends. Under WSGI nothing waits in any case."""
    handle_sigterm: bool = True
    """Whether SIGTERM ends the process by its exit hooks, and so with a drain, where the server
    leaves it to kill the process. Nothing else is changed where a handler stands already."""
    on_commit: bool = True
    """Whether a task that was added in a transaction runs only if that commits; for Django."""
    strict_portable: bool = False
    """Whether ``add_task`` refuses what could not be sent to another process: functions that
    cannot be imported by name, arguments that do not survive JSON."""
    on_event: EventHook | None = None
    """Called with a `TaskEvent` for everything that happens to a task, wherever that happens. It
    cannot be a coroutine function."""
    on_error: EventHook | None = None
    """Called with a `TaskEvent` for each task that has raised, of kind ``"failed"``, or on which a
    drain or a signal has given up, of kind ``"abandoned"``; as ``on_event``."""
    task_middleware: Sequence[TaskMiddleware | Callable[[TaskInfo], Around]] = ()
    """What is entered around each attempt to run a task, the first one outermost."""
    defaults: TaskOptions = NO_OPTIONS
    """Options for every task of the application; ``@task_options`` and ``options(...)`` go before
    them."""
    concurrency: Mapping[str, int] = {}
    """Limits by name: how many tasks with the option ``concurrency`` of that name run at a
    time in this process."""
    store: Any = None
    """Where tasks with the option ``durable`` are kept: a URL such as ``sqlite:///tasks.db``, or a
    `bgadapters.stores.Store`."""
    engines: Mapping[str, Any] = {}
    """Where tasks with the option ``engine`` go, by name: objects of `bgadapters.engines.Engine`,
    or, as Django's ``CACHES`` has them, dictionaries with ``"BACKEND"``, the dotted path of their
    class, and ``"OPTIONS"``, its arguments."""
    name: str = ""
    """What tells the application from others whose tasks go to the same broker. Default: what its
    framework calls it, if that does."""
    task_modules: Sequence[str] = ()
    """What may be called out of a store or a message, beside functions with ``@task_options``:
    those of these modules. A name that ends with a dot stands for all modules below it."""


class SettingNames(TypedDict, total=False):
    """The settings as keyword arguments, for type checkers."""

    max_workers: int
    max_pending: int
    on_full: Literal["run", "reject"]
    drain_timeout: float
    stall_warning: float
    hold_response: bool
    await_tasks: bool
    handle_sigterm: bool
    on_commit: bool
    strict_portable: bool
    on_event: EventHook | str | None
    on_error: EventHook | str | None
    task_middleware: Sequence[
        TaskMiddleware | type[TaskMiddleware] | Callable[[TaskInfo], Around] | str
    ]
    defaults: TaskOptions | OptionNames
    concurrency: Mapping[str, int]
    store: Any
    engines: Mapping[str, Any]
    name: str
    task_modules: Sequence[str]


def parse_settings(given: Mapping[str, Any], label: Callable[[str], str] = "{}".format) -> Settings:
    """Check settings given by lower-case name.

    Args:
        given: the settings that differ from the defaults.
        label: how the user wrote a setting of this name, for error messages.

    Raises:
        SettingsError: an unknown name, an impossible value, or two that contradict each other.
    """
    unknown = [name for name in given if name not in _CHECKS]
    if unknown:
        raise SettingsError(
            f"unknown setting {', '.join(label(name) for name in unknown)}; "
            f"accepted are {', '.join(label(name) for name in _CHECKS)}"
        )
    checked = {name: _CHECKS[name](label(name), value) for name, value in given.items()}
    settings = Settings(**checked)
    if settings.hold_response and not settings.await_tasks:
        hold, wait = label("hold_response"), label("await_tasks")
        raise SettingsError(
            f"{hold}=True has a response wait for its tasks, {wait}=False has nothing wait for "
            f"them; give one of the two"
        )
    return settings


def _positive_int(label: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _refused(label, "a whole number from 1", value)
    return value


def _seconds(label: str, value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= TIMEOUT_MAX:
        raise _refused(label, f"a number of seconds from 0 to {TIMEOUT_MAX:.0f}", value)
    return float(value)


def _bool(label: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refused(label, "True or False", value)
    return value


def _on_full(label: str, value: Any) -> str:
    if value not in ("run", "reject"):
        raise _refused(label, "'run' or 'reject'", value)
    return str(value)


def _hook(label: str, value: Any) -> EventHook | None:
    if value is None:
        return None
    if callable(value):
        return _plain(label, value)
    if isinstance(value, str) and "." in value:
        return _hook(label, _imported(label, value))
    raise _refused(label, "a callable, its dotted import path, or None", value)


def _imported(label: str, path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as exc:
        raise SettingsError(f"{label}: cannot import {path!r}: {exc}") from exc


def _middlewares(label: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _refused(label, f"a list of {_MIDDLEWARE}", value)
    return tuple(_middleware(f"{label}[{place}]", each) for place, each in enumerate(value))


_MIDDLEWARE = "task middlewares, functions that return a context manager, or their import paths"


def _middleware(label: str, value: Any) -> Any:
    if isinstance(value, str) and "." in value:
        return _middleware(label, _imported(label, value))
    if not callable(getattr(value, "around", value)):
        raise _refused(label, _MIDDLEWARE, value)
    try:
        return checked_middleware(value)
    except Exception as exc:
        raise SettingsError(f"{label}: {value!r} is no task middleware: {exc}") from exc


def _defaults(label: str, value: Any) -> TaskOptions:
    if isinstance(value, TaskOptions):
        return value
    if not isinstance(value, dict):
        raise _refused(label, "a TaskOptions or a dictionary of options", value)
    try:
        return TaskOptions.parsed(None, value, label)
    except TypeError as exc:
        raise SettingsError(str(exc)) from exc


def _concurrency(label: str, value: Any) -> Mapping[str, int]:
    what = "a mapping of names to whole numbers from 1"
    if not isinstance(value, Mapping):
        raise _refused(label, what, value)
    for name, limit in value.items():
        is_limit = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 1
        if not (isinstance(name, str) and name and is_limit):
            raise _refused(label, what, value)
    return dict(value)


def _store(label: str, value: Any) -> Any:
    is_url = isinstance(value, str) and "." not in value.partition(":")[0]
    if value is None or is_url or hasattr(value, "take_over"):
        return value
    if isinstance(value, str):
        return _store(label, _imported(label, value))
    raise _refused(label, _STORE, value)


_STORE = "a URL such as 'sqlite:///tasks.db', 'django', a store, its dotted import path, or None"


def _engines(label: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _refused(label, "a mapping of names to engines", value)
    for name in value:
        if not isinstance(name, str) or name in ("", "local"):
            raise _refused(label, "names other than 'local', which is this process", name)
    engines = {name: _engine(f"{label}[{name!r}]", each) for name, each in value.items()}
    process = engines.get("process")
    if process is not None and not hasattr(process, "place"):
        raise _refused(f"{label}['process']", "a ProcessEngine; others need another name", process)
    return engines


def _engine(label: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        if not value.keys() <= {"BACKEND", "OPTIONS"} or not isinstance(value.get("BACKEND"), str):
            raise _refused(label, "a dictionary with 'BACKEND' and 'OPTIONS'", value)
        kind = _imported(label, value["BACKEND"])
        try:
            return _engine(label, kind(**value.get("OPTIONS", {})))
        except (TypeError, ValueError) as exc:
            raise SettingsError(f"{label}: {exc}") from exc
    if hasattr(value, "abilities") and callable(getattr(value, "send", None)):
        return value
    raise _refused(label, "an engine, or a dictionary with 'BACKEND' and 'OPTIONS'", value)


def _name(label: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _refused(label, "a string that is not empty", value)
    return value


def _modules(label: str, value: Any) -> tuple[str, ...]:
    is_list = isinstance(value, (list, tuple))
    if not is_list or not all(isinstance(each, str) and each.strip(".") for each in value):
        raise _refused(label, "a list of module names such as 'shop.mail' or 'shop.'", value)
    return tuple(value)


def checked_hook(label: str, hook: Any) -> EventHook:
    """Return what is to be called for events.

    Raises:
        TypeError: it cannot be called, or is a coroutine function.
    """
    if not callable(hook):
        raise TypeError(f"{label} accepts a callable, not {hook!r}")
    try:
        return _plain(label, hook)
    except SettingsError as exc:
        raise TypeError(str(exc)) from exc


def _plain(label: str, hook: EventHook) -> EventHook:
    """Return a hook that is no coroutine function: it is called in threads without a loop, too."""
    try:
        is_async = examined(hook)[1]
    except TypeError:  # a generator function, of which a call runs nothing
        is_async = True
    except Exception:  # a proxy, of which nothing can be known yet
        is_async = False
    if not is_async:
        return hook
    raise SettingsError(
        f"{label} accepts a function that is called, not one that is awaited: {hook!r}. Write it "
        "with 'def'; asyncio.run_coroutine_threadsafe() hands a coroutine to an event loop"
    )


def _refused(label: str, accepted: str, value: Any) -> SettingsError:
    return SettingsError(f"{label} accepts {accepted}, not {value!r}")


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "max_workers": _positive_int,
    "max_pending": _positive_int,
    "on_full": _on_full,
    "drain_timeout": _seconds,
    "stall_warning": _seconds,
    "hold_response": _bool,
    "await_tasks": _bool,
    "handle_sigterm": _bool,
    "on_commit": _bool,
    "strict_portable": _bool,
    "on_event": _hook,
    "on_error": _hook,
    "task_middleware": _middlewares,
    "defaults": _defaults,
    "concurrency": _concurrency,
    "store": _store,
    "engines": _engines,
    "name": _name,
    "task_modules": _modules,
}
