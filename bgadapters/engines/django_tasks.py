"""The backends of Django's tasks framework as engines: Django 6, or the backport django-tasks.

::

    BACKGROUND_TASKS = {
        "ENGINES": {
            "tasks": {
                "BACKEND": "bgadapters.engines.django_tasks.DjangoTasksEngine",
                "OPTIONS": {"alias": "default"},
            }
        }
    }
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from importlib import import_module
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils.timezone import make_naive

from bgadapters.adapters import (
    Arrivals,
    Call,
    Options,
    TaskWrapper,
    callable_name,
    explain_missing,
)
from bgadapters.engines import (
    Ability,
    Engine,
    EngineUnavailableError,
    Message,
    RefusedError,
)

_arrivals: dict[str, Arrivals] = {}
"""What arrives in this process, by alias."""


class DjangoTasksEngine(Engine):
    """Tasks are enqueued with a backend of Django's tasks framework, and its workers run them.

    ``docs/django-tasks.md`` says what is kept and what is not. A worker has to have
    ``"bgadapters.django"`` in ``INSTALLED_APPS``. What it can do with a task is what the backend
    says: ``supports_defer`` and ``supports_priority``. How long it waits for its broker is the
    backend's own matter: it has no ``timeout``.

    Args:
        alias: the key of the backend in ``TASKS``. Default: ``"default"``.
        queue: the queue into which functions go. Default: the one that the framework takes, if the
            backend accepts that, or else the first of the backend's ``QUEUES``.
        away: types of exceptions, or their dotted import paths, which say that the broker is away,
            beside `OSError` and what Django raises for a database.
        failover, patience: as of `Engine`.

    Raises:
        TypeError: there is no such backend, it is one of bgadapters', or an argument is none that
            is accepted.
    """

    def __init__(
        self,
        alias: str = "default",
        *,
        queue: str | None = None,
        away: Sequence[type[BaseException] | str] = (),
        failover: Sequence[str] = (),
        patience: float = 10.0,
    ) -> None:
        super().__init__(failover=failover, patience=patience)
        self._framework = _framework()
        found = self._framework.task_backends.settings
        if alias not in found:
            names = ", ".join(map(repr, found)) or "none"
            raise TypeError(f"alias= accepts a key of TASKS, which has {names}, not {alias!r}")
        self.alias = alias
        _check_is_not_ours(alias, str(found[alias].get("BACKEND", "")))
        self._queue = queue
        self._away: tuple[type[BaseException], ...] = (
            OSError,
            OperationalError,
            InterfaceError,
            *map(_type_of, away),
        )
        self.arrivals = _arrivals.setdefault(alias, Arrivals(f"the backend {alias!r} of TASKS"))

    @cached_property
    def _backend(self) -> Any:
        """The backend. It may import models, so it is made when the first task comes."""
        backend = self._framework.task_backends[self.alias]
        for kind in type(backend).__mro__:
            _check_is_not_ours(self.alias, f"{kind.__module__}.{kind.__qualname__}")
        return backend

    @property
    def abilities(self) -> frozenset[Ability]:  # type: ignore[override]  # of most it is constant
        """What the backend supports."""
        found: set[Ability] = {"timeout"}
        if self._backend.supports_defer:
            found.add("delay")
        if self._backend.supports_priority:
            found.add("priority")
        return frozenset(found)

    def owns(self, func: Any) -> bool:
        """A task of the framework is enqueued as itself, with this backend."""
        return isinstance(func, TaskWrapper) and isinstance(_own(func), self._kind)

    @cached_property
    def _kind(self) -> Any:
        return import_module(f"{self._framework.__name__}.base").Task

    def check(self, func: Any, options: Options) -> None:
        """Refuse what the backend does not accept."""
        if self.owns(func):
            if options.timeout is not None:
                raise TypeError(
                    f"cannot add {callable_name(func)} with timeout={options.timeout}, as it is a "
                    f"task of {self._framework.__name__}, which has none"
                )
            self._accepted(_own(func), options, options.run_after)
        else:
            self._accepted(self.task(), options, options.run_after)

    def check_call(self, call: Call) -> None:
        """Refuse arguments that the framework cannot send."""
        try:
            normalize_json = import_module(_NORMALIZE[self._framework.__name__]).normalize_json
            normalize_json([call.args, call.kwargs])
        except (TypeError, ValueError) as exc:
            name = callable_name(call.func)
            raise TypeError(f"cannot add {name} with arguments that are no JSON: {exc}") from exc

    def send(self, message: Message) -> None:
        """Enqueue it."""
        task, args, kwargs = self._message(message)
        try:
            task.enqueue(*args, **kwargs)
        except self._away as exc:
            raise _unavailable(exc) from exc

    async def asend(self, message: Message) -> None:
        """Do as `send`, with the backend's own ``aenqueue``."""
        task, args, kwargs = self._message(message)
        try:
            await task.aenqueue(*args, **kwargs)
        except self._away as exc:
            raise _unavailable(exc) from exc

    def task(self) -> Any:
        """Return the task of the framework by which functions run."""
        return _task(self._framework, self.alias, self.queue)

    @property
    def queue(self) -> str:
        """The queue into which functions go."""
        if self._queue is not None:
            return self._queue
        return _queue_of(self._framework, self._backend)

    def _message(self, message: Message) -> Call:
        due = None
        if message.due is not None:
            due = datetime.fromtimestamp(message.due, UTC)
            if not settings.USE_TZ:
                due = make_naive(due)
        call = message.call
        task, args, kwargs = self.task(), (message.payload,), {}
        if self.owns(call.func):
            task, args, kwargs = _own(call.func), call.args, call.kwargs
        return Call(self._accepted(task, message.options, due), args, kwargs)

    def _accepted(self, task: Any, options: Options, due: datetime | None) -> Any:
        try:
            return task.using(backend=self.alias, priority=options.priority or None, run_after=due)
        except self._invalid as exc:
            raise TypeError(f"the backend {self.alias!r} of TASKS refuses a task: {exc}") from exc

    @cached_property
    def _invalid(self) -> Any:
        exceptions = import_module(f"{self._framework.__name__}.exceptions")
        return getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError  # renamed


_NORMALIZE = {"django.tasks": "django.utils.json", "django_tasks": "django_tasks.utils"}


def _run(context: Any, payload: str) -> None:
    """Run what has arrived, in a worker of the backend."""
    alias = context.task_result.backend
    arrivals = _arrivals.get(alias)
    if arrivals is None:
        raise RefusedError(
            f"no engine for the backend {alias!r} of TASKS was made in this process: have "
            "'bgadapters.django' in INSTALLED_APPS, and the engine in BACKGROUND_TASKS"
        )
    arrivals.run(payload, max(1, context.attempt))


_run.__name__ = _run.__qualname__ = "run"  # by which a worker finds the task: see __getattr__


def __getattr__(name: str) -> Any:
    """Return the task ``run``, for workers: of which backend it is they know."""
    if name == "run":
        framework = _framework()
        for alias in _arrivals:
            if alias in framework.task_backends.settings:
                queue = _queue_of(framework, framework.task_backends[alias])
                return _task(framework, alias, queue)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _task(framework: Any, alias: str, queue: str) -> Any:
    """Return the task by which functions run."""
    return framework.task(backend=alias, queue_name=queue, takes_context=True)(_run)


def _queue_of(framework: Any, backend: Any) -> str:
    """Return the queue into which functions go, if none is named."""
    default: str = framework.DEFAULT_TASK_QUEUE_NAME
    queues = backend.queues
    return default if not queues or default in queues else min(queues)


def _own(func: Any) -> Any:
    """Return the task object for which a call stands in a queue."""
    return getattr(func, "target", None)


def _framework() -> Any:
    with suppress(ModuleNotFoundError):
        return import_module("django.tasks")
    try:
        return import_module("django_tasks")
    except ModuleNotFoundError as missing:
        explain_missing(
            missing,
            "django_tasks",
            "DjangoTasksEngine needs Django 6, or the backport: pip install 'django-tasks>=0.12'.",
        )
        raise


def _check_is_not_ours(alias: str, path: str) -> None:
    if path.startswith("bgadapters."):
        raise TypeError(
            f"alias={alias!r} is {path}, which runs tasks in this process: a task would be sent "
            "and come back. Name another backend of TASKS, or leave engine= away"
        )


def _type_of(given: Any) -> type[BaseException]:
    found = given
    if isinstance(given, str):
        module, _, name = given.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as exc:
            raise TypeError(f"away= accepts types of exceptions or their paths: {exc}") from exc
    if not (isinstance(found, type) and issubclass(found, Exception)):
        raise TypeError(f"away= accepts types of exceptions or their paths, not {given!r}")
    return found


def _unavailable(error: BaseException) -> EngineUnavailableError:
    return EngineUnavailableError(f"its backend is away: {type(error).__name__}: {error}")
