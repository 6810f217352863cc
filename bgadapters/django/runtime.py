"""The runtime of Django's settings, and what Django keeps outside of context variables.

Django keeps the active language, time zone, URLconf and script prefix in asgiref's
``Local``, which shows them only to the thread that set them: so they are noted when a
task is added and made active again around it. Its database connections belong to the
thread, or thread-sensitive executor, that uses them and are treated as a request's are.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync, sync_to_async
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections
from django.db.backends.signals import connection_created
from django.urls import get_script_prefix, get_urlconf, set_script_prefix, set_urlconf
from django.utils import timezone, translation

from bgadapters.core import rehearsal
from bgadapters.core.exceptions import SettingsError
from bgadapters.core.runtime import Runtime
from bgadapters.core.settings import parse_settings
from bgadapters.django.commit import gates_of
from bgadapters.django.signals import sending

logger = logging.getLogger("bgadapters")

SETTING = "BACKGROUND_TASKS"
"""The name of the dictionary in Django's settings."""

_lock = threading.Lock()
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
    connection_created.connect(_note_connection, dispatch_uid="bgadapters.django")
    return Runtime(
        settings._replace(on_event=sending(settings.on_event)),
        scope=_task_scope,
        ascope=_async_task_scope,
        snapshot=_take_snapshot,
        gates_of=gates_of,
        rest=connections.close_all,
        bridge=rehearsal.Bridge(sync_to_async, partial(async_to_sync, force_new_loop=True)),
    )


_Setting = tuple[Callable[[Any], object], Any]
_snapshot: ContextVar[tuple[_Setting, ...]] = ContextVar("bgadapters.django.snapshot")


def _take_snapshot() -> None:
    """Note what is not as it is in a thread where nobody has set it."""
    noted: tuple[_Setting, ...] = ()
    if django_settings.USE_I18N:
        language = translation.get_language()
        if language != django_settings.LANGUAGE_CODE:
            noted += ((_set_language, language),)
    time_zone = timezone.get_current_timezone()
    if time_zone is not timezone.get_default_timezone():
        noted += ((timezone.activate, time_zone),)
    urlconf = get_urlconf()
    if urlconf is not None:
        noted += ((set_urlconf, urlconf),)
    script_prefix = get_script_prefix()
    if script_prefix != "/":
        noted += ((set_script_prefix, script_prefix),)
    _snapshot.set(noted)


def _set_language(language: str | None) -> None:
    if language is None:
        translation.deactivate_all()
    else:
        translation.activate(language)


def _do_as_in_the_request() -> None:
    """Set what was noted. The task's context is its own, so nothing is to be undone."""
    for set_it, value in _snapshot.get():
        set_it(value)


class _Thread(threading.local):
    """What is known of the connections of a thread."""

    may_have_some = True  # looking for them costs more than all else around a task


_thread = _Thread()


def _note_connection(**_: Any) -> None:
    _thread.may_have_some = True


def _connections() -> Sequence[Any]:
    """The connections of this thread.

    While somebody looks on those of the main thread are the test's, and Django's test client does
    not touch them either; what other threads leave open would keep its database from being removed.
    """
    if rehearsal.audience is not None and threading.current_thread() is threading.main_thread():
        return []
    return connections.all(initialized_only=True)


def _close_old_connections() -> Sequence[Any]:
    """Do as Django does before a request; return the connections in the middle of a transaction.

    These are somebody else's: a test's, or of whoever releases the queue in this thread.
    """
    if not _thread.may_have_some:
        return ()
    found = _connections()
    busy = [connection for connection in found if connection.in_atomic_block]
    for connection in found:
        if connection not in busy:
            connection.close_if_unusable_or_obsolete()
    _note_what_is_open()
    return busy


def _close_used_connections(busy: Sequence[Any]) -> None:
    """Do as Django does after a request."""
    if not _thread.may_have_some:
        return
    for connection in _connections():
        if connection not in busy and not _is_left_in_a_transaction(connection):
            connection.close_if_unusable_or_obsolete()
    _note_what_is_open()


def _is_left_in_a_transaction(connection: Any) -> bool:
    """Whether a task has begun a transaction and not ended it; then nothing is left of either."""
    if not connection.in_atomic_block:
        return False
    logger.warning(
        "A background task has left a transaction open on the database %r: it is rolled back",
        connection.alias,
    )
    connection.close()
    del connections[connection.alias]  # once closed in a block it cannot be used any more
    return True


def _note_what_is_open() -> None:
    found = connections.all(initialized_only=True)
    _thread.may_have_some = any(connection.connection is not None for connection in found)


class _Guests(threading.local):
    """The async tasks that use this thread's connections, one of which may be in a cursor."""

    count = 0
    busy: Sequence[Any] = ()  # see `_close_old_connections`
    uncounted = ExitStack()  # replaced by the first of them


_guests = _Guests()


def _close_broken_connections() -> None:
    """Do what cannot wait until the last guest has left, which may be never."""
    for connection in _connections():
        is_idle = not connection.in_atomic_block
        if is_idle and connection.errors_occurred and not connection.is_usable():
            connection.close()


def _arrive() -> None:
    if _guests.count:
        _close_broken_connections()
    else:
        _guests.busy = _close_old_connections()
        _guests.uncounted = ExitStack()
        if rehearsal.audience is not None:
            _guests.uncounted.enter_context(_uncounted())
    _guests.count += 1


def _leave() -> None:
    """Keep no connection for later: nobody calls such a thread when it has nothing to do."""
    _guests.count -= 1
    if _guests.count:
        return
    _guests.uncounted.close()
    for connection in _connections():
        if connection not in _guests.busy and not _is_left_in_a_transaction(connection):
            connection.close()


@contextmanager
def _uncounted() -> Iterator[None]:
    """Keep the queries of a task out of ``assertNumQueries``, whose thread a test's tasks share."""
    counted = [c for c in connections.all(initialized_only=True) if c.force_debug_cursor]
    for connection in counted:
        connection.force_debug_cursor = False
    try:
        yield
    finally:
        for connection in counted:
            connection.force_debug_cursor = True


@contextmanager
def _task_scope() -> Iterator[None]:
    busy = _close_old_connections()
    try:
        _do_as_in_the_request()
        with nullcontext() if rehearsal.audience is None else _uncounted():
            yield
    finally:
        _close_used_connections(busy)


@asynccontextmanager
async def _async_task_scope() -> AsyncIterator[None]:
    # A view that ran inside async_to_sync has left there the thread that waited for it, which
    # does so no longer; sync_to_async, and so the ORM, would still send its calls to it. Under
    # ASGI there is a thread for each request, which would be started again for its tasks: all
    # async tasks share one thread, hence one connection a database.
    AsyncToSync.executors.current = None
    SyncToAsync.thread_sensitive_context.set(None)  # type: ignore[arg-type]  # asked for as a bool
    # Code that sync_to_async has called has left there that it holds asgiref's single thread,
    # which it does no longer either.
    SyncToAsync.deadlock_context.set(False)
    await sync_to_async(_arrive)()
    try:
        _do_as_in_the_request()
        yield
    finally:
        await sync_to_async(_leave)()
