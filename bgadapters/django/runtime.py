"""The runtime of Django's settings, and what Django keeps outside of context variables.

Django keeps the active language, time zone, URLconf and script prefix in asgiref's
``Local``, which shows them only to the thread that set them: so they are noted when a
task is added and made active again around it. Its database connections belong to the
thread that uses them; see `databases` and `task_threads`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from contextvars import Context, ContextVar, copy_context
from datetime import datetime, timedelta, tzinfo
from functools import partial
from types import TracebackType
from typing import Any
from weakref import ref
from zoneinfo import ZoneInfo

from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync, sync_to_async
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections
from django.urls import get_resolver, get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from bgadapters.adapters import (
    Bridge,
    FrameworkHooks,
    Installation,
    Runtime,
    SettingsError,
    mode,
    parse_settings,
)
from bgadapters.django import databases, uploads
from bgadapters.django.commit import preconditions_of
from bgadapters.django.hook_thread import HookThread
from bgadapters.django.installation import missing, what_to_change
from bgadapters.django.signals import TaskSignals
from bgadapters.django.task_threads import TaskThread, TaskThreads

SETTING = "BACKGROUND_TASKS"
"""The name of the dictionary in Django's settings."""

_lock = threading.RLock()
_runtime: Runtime | None = None  # made with _lock held


def get_runtime() -> Runtime:
    """Return the runtime for ``settings.BACKGROUND_TASKS``; a new one when a test overrides that.

    Raises:
        ImproperlyConfigured: an unknown or impossible setting.
    """
    global _runtime
    runtime = _runtime
    if runtime is None:
        with _lock:
            runtime = _runtime
            if runtime is None:
                runtime = _runtime = _make(getattr(django_settings, SETTING, None))
    return runtime


def _forget_settings(*, setting: str, **_: Any) -> None:
    global _runtime
    if setting == SETTING:
        _runtime = None


setting_changed.connect(_forget_settings, dispatch_uid="bgadapters.django")


def _make(given: Any) -> Runtime:
    if given is not None and not isinstance(given, dict):
        raise ImproperlyConfigured(f"{SETTING} accepts a dictionary, not {given!r}")
    upper = [name for name in given or {} if not isinstance(name, str) or name != name.upper()]
    if upper:
        raise ImproperlyConfigured(f"{SETTING} accepts names in upper case, not {upper[0]!r}")
    try:
        settings = parse_settings(
            {name.lower(): value for name, value in (given or {}).items()},
            lambda name: f"{SETTING}[{name.upper()!r}]",
        )
    except SettingsError as exc:
        raise ImproperlyConfigured(str(exc)) from exc
    hook_thread = HookThread(_do_as_in_the_request)
    hooks = FrameworkHooks(
        scope=_TaskScope,
        ascope=partial(_async_task_scope, TaskThreads(settings.max_workers)),
        hook_scope=_hook_scope,
        enter_to_log=_do_as_in_the_request,
        context=_task_context,
        preconditions=preconditions_of,
        on_idle=connections.close_all,
        bridge=Bridge(sync_to_async, partial(async_to_sync, force_new_loop=True)),
        signals=TaskSignals(hook_thread.call),
        installation=Installation(missing, what_to_change),
        carry=_carry,
        restore=_restore,
        before_recovery=_import_views,
        in_child=_in_child(),
        name="django",
        is_only_one=True,
        takes_naive_times=lambda: not django_settings.USE_TZ,
    )
    hook_thread.runtime = Runtime(
        settings._replace(
            on_event=hook_thread.wrapped(settings.on_event),
            on_error=hook_thread.wrapped(settings.on_error),
        ),
        hooks,
    )
    return hook_thread.runtime


def _in_child() -> tuple[str, ...]:
    """What sets Django up in a process for tasks.

    A project in one file has no settings module: its URLconf, as a rule, configures them.
    """
    set_up = "bgadapters.django.child:set_up"
    if getattr(django_settings, "SETTINGS_MODULE", None) is not None:
        return (set_up,)
    return (set_up, str(getattr(django_settings, "ROOT_URLCONF", None) or ""))


_Setting = tuple[Callable[[Any], object], Any]
_snapshot: ContextVar[tuple[_Setting, ...]] = ContextVar("bgadapters.django.snapshot")


class _Latest(threading.local):
    """The context of the task that was added last in a thread, as long as that waits."""

    context: Callable[[], Context | None] = staticmethod(lambda: None)


_latest = _Latest()


def _task_context() -> Context:
    """Return a copy of this context in which there is noted what Django keeps elsewhere.

    A ``Local`` of asgiref keeps its values in context variables. So where none of these was
    changed since the last task was added in this thread, what was noted then holds still.
    """
    context = copy_context()
    if not _is_the_same(context, _latest.context()):
        _snapshot.set(_what_is_set())
        context = copy_context()
    _latest.context = ref(context)
    return context


def _is_the_same(context: Context, latest: Context | None) -> bool:
    try:
        return context == latest  # at once, if they are copies of one
    except Exception:  # of two values that a variable has had, which cannot be compared
        return False


def _what_is_set() -> tuple[_Setting, ...]:
    """Return what is not as it is in a thread where nobody has set it, and what sets it."""
    noted: tuple[_Setting, ...] = ()
    if django_settings.USE_I18N:
        language = translation.get_language()
        if language != django_settings.LANGUAGE_CODE:
            noted += ((_set_language, language),)
    time_zone = timezone.get_current_timezone()
    if time_zone is not timezone.get_default_timezone():
        noted += ((timezone.activate, time_zone),)
    urlconf = get_urlconf()
    if urlconf is not None and urlconf != django_settings.ROOT_URLCONF:
        noted += ((set_urlconf, urlconf),)
    script_prefix = get_script_prefix()
    if script_prefix != "/":
        noted += ((set_script_prefix, script_prefix),)
    return noted


def _import_views() -> None:
    """Import the URLconf, which Django does for the first view that is looked for.

    It imports the views, and these the functions that they add.
    """
    len(get_resolver().url_patterns)


def _carry() -> dict[str, Any]:
    """Return, as JSON, what of a request its tasks see in another process as well."""
    carried: dict[str, Any] = {}
    if django_settings.USE_I18N:
        language = translation.get_language()
        if language != django_settings.LANGUAGE_CODE:
            carried["language"] = language
    time_zone = timezone.get_current_timezone()
    if time_zone is not timezone.get_default_timezone():
        carried["time_zone"] = getattr(time_zone, "key", None) or _offset(time_zone)
    return carried


def _offset(time_zone: tzinfo) -> float:
    """The minutes between this time zone and UTC: one without a name has the same all year."""
    offset = datetime.now(time_zone).utcoffset() or timedelta()
    return offset.total_seconds() / 60


def _restore(carried: dict[str, Any]) -> None:
    """Note what `_carry` has returned, for what runs in this context."""
    noted: tuple[_Setting, ...] = ()
    if "language" in carried:
        noted += ((_set_language, carried["language"]),)
    if "time_zone" in carried:
        value = carried["time_zone"]
        zone = ZoneInfo(value) if isinstance(value, str) else timezone.get_fixed_timezone(value)
        noted += ((timezone.activate, zone),)
    _snapshot.set(noted)


def _set_language(language: str | None) -> None:
    if language is None:
        translation.deactivate_all()
    else:
        translation.activate(language)


def _do_as_in_the_request() -> None:
    """Set what was noted, if this is the context of a task, or a copy of it.

    Nothing is to be undone: it is for the task alone.
    """
    for set_it, value in _snapshot.get(()):
        set_it(value)


@contextmanager
def _hook_scope() -> Iterator[None]:
    _do_as_in_the_request()
    yield


class _TaskScope:
    """Around a sync task: connections as a request has them, and what was noted for it."""

    __slots__ = ("_elsewhere",)

    def __init__(self) -> None:
        self._elsewhere: AbstractContextManager[None] | None = None

    def __enter__(self) -> None:
        if not databases.is_free_worker():
            is_test = mode.active.shares_connections
            scope = databases.shared_connections() if is_test else databases.own_connections()
            scope.__enter__()
            self._elsewhere = scope
        try:
            if self._elsewhere is None:
                databases.begin_work()
            _do_as_in_the_request()
        except BaseException as exc:
            self.__exit__(type(exc), exc, exc.__traceback__)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if self._elsewhere is None:
                databases.end_work()
            else:
                self._elsewhere.__exit__(kind, exception, traceback)
        finally:
            if isinstance(exception, Exception):
                uploads.explain(exception)


@asynccontextmanager
async def _async_task_scope(threads: TaskThreads) -> AsyncIterator[None]:
    thread: TaskThread | databases.TestThread
    if mode.active.shares_connections:
        thread = await _enter_thread_of_the_test()
    else:
        thread = TaskThread(threads)
        thread.enter()
    try:
        _do_as_in_the_request()
        yield
    except GeneratorExit:  # there is no loop to wait on
        thread.leave_without_waiting()
        raise
    except BaseException as exc:
        uploads.explain(exc)
        await thread.leave()
        raise
    else:
        await thread.leave()


async def _enter_thread_of_the_test() -> databases.TestThread:
    """Have the task use the thread that waits for its loop, or asgiref's single one."""
    AsyncToSync.executors.current = None
    SyncToAsync.thread_sensitive_context.set(None)  # type: ignore[arg-type]  # asked for as a bool
    # Code that sync_to_async has called has left there that it holds asgiref's single thread,
    # which it does no longer.
    SyncToAsync.deadlock_context.set(False)
    thread = databases.thread_of_the_test()
    try:
        await thread.enter()
    except BaseException:
        await thread.leave()
        raise
    return thread
