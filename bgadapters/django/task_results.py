"""One enqueued task of Django's tasks framework or its backport, and what became of it.

A `Call` is what the queue calls. It goes through the states of the framework's ``TaskResult``
and sends its signals. A result that was made is not changed any more, the next state is another
one: so it can be read in any thread. Who asks gets a copy, which ``refresh()`` may change.
"""

from __future__ import annotations

import os
import threading
from copy import copy, deepcopy
from inspect import iscoroutinefunction
from traceback import format_exception
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from asgiref.sync import sync_to_async
from django.utils import timezone
from django.utils.crypto import get_random_string

from bgadapters.adapters import (
    BackgroundTasksError,
    Task,
    TaskEvent,
    TaskObserver,
    TaskWrapper,
    reset_in_child,
)
from bgadapters.adapters import Call as FunctionCall


class Framework(NamedTuple):
    """The parts of ``django.tasks`` or ``django_tasks`` that are needed here."""

    result: Any
    status: Any
    error: Any
    context: Any
    enqueued: Any
    started: Any
    finished: Any
    normalize_json: Any
    invalid_task: type[Exception]
    no_result: type[Exception]


class NotRunError(BackgroundTasksError, RuntimeError):
    """What the result of a task says that was discarded or abandoned before it began."""


class Results:
    """The results of one backend in this process.

    Those of tasks that have not finished are there as long as the task is. Of the others the
    last ``limit`` are kept.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Start empty: at first, and in a forked child, which runs none of its parent's tasks."""
        self._lock = threading.RLock()
        self._live: WeakValueDictionary[str, Call] = WeakValueDictionary()  # guarded by _lock
        self._finished: dict[str, Any] = {}  # the oldest first; guarded by _lock

    def begin(self, call: Call) -> None:
        """Note a task that was just enqueued."""
        with self._lock:
            self._live[call.result.id] = call

    def change(self, call: Call, **fields: Any) -> Any:
        """Give a task its next result; returns it, or None if the task has finished already."""
        with self._lock:
            if call.result.is_finished:
                return None
            result = copy(call.result)
            for name, value in fields.items():
                object.__setattr__(result, name, value)
            call.result = result
            if result.is_finished:
                self._live.pop(result.id, None)
                self._finished[result.id] = result
                while len(self._finished) > self.limit:
                    del self._finished[next(iter(self._finished))]
            return result

    def get(self, result_id: str) -> Any:
        """Return a copy of a result, None if it is not here."""
        with self._lock:
            call = self._live.get(result_id)
            result = self._finished.get(result_id) if call is None else call.result
        return None if result is None else own_copy(result)


def own_copy(result: Any) -> Any:
    """Copy a result for somebody who may change it. The task it is of cannot be changed."""
    copied = copy(result)
    for name in ("args", "kwargs", "errors", "worker_ids", "_return_value"):
        object.__setattr__(copied, name, deepcopy(getattr(result, name)))
    return copied


class Call(TaskObserver, TaskWrapper):
    """What the queue calls for one enqueued task; see the module.

    Args:
        backend: that which it was enqueued to.
        task: the framework's task.
        args: its positional arguments.
        kwargs: its keyword arguments.

    Attributes:
        result: what has become of it.
        is_tried_again: whether the task has another attempt when one has raised, perhaps.

    Raises:
        TypeError, ValueError: an argument that JSON does not know.
    """

    __slots__ = ("__weakref__", "_framework", "_results", "_sender", "is_tried_again", "result")

    def __init__(self, backend: Any, task: Any, args: Any, kwargs: Any) -> None:
        self._framework: Framework = backend.framework
        self._results: Results = backend.result_store
        self._sender: type[Any] = type(backend)
        self.is_tried_again = False
        self.result = self._framework.result(
            task=task,
            id=get_random_string(32),
            status=self._framework.status.READY,
            enqueued_at=timezone.now(),
            started_at=None,
            last_attempted_at=None,
            finished_at=None,
            args=args,
            kwargs=kwargs,
            backend=backend.alias,
            errors=[],
            worker_ids=[],
        )
        self._results.begin(self)

    def unwrap(self, task: Task) -> FunctionCall:  # noqa: ARG002  it knows the call itself
        """The task's own function, with the arguments that it was enqueued with."""
        result = self.result
        return FunctionCall(result.task.func, tuple(result.args), dict(result.kwargs))

    def on_task_event(self, event: TaskEvent) -> None:
        """The task was not run, or failed outside of its function: the result says so.

        One that was abandoned while it ran is running still, and may yet finish.
        """
        if event.kind == "abandoned" and self.result.status != self._framework.status.READY:
            return
        if event.exception is not None:
            if event.kind == "retrying":
                self._wait_for_attempt(event.exception)
                return
            if event.kind == "failed":
                self.fail(event.exception)
                return
        try:
            _refuse(event)
        except NotRunError as exc:
            self.fail(exc)

    def fail(self, exception: BaseException) -> None:
        """End the task, unless it has ended. To be called while ``exception`` is handled."""
        result = self._failed(exception)
        if result is not None:
            self._framework.finished.send(self._sender, task_result=result)

    def _begun(self) -> Any:
        """The result of a task that begins; None if the task has ended before."""
        now, before = timezone.now(), self.result
        worker = f"{os.getpid()}-{threading.current_thread().name}"
        return self._results.change(
            self,
            status=self._framework.status.RUNNING,
            started_at=before.started_at or now,
            last_attempted_at=now,
            worker_ids=[*before.worker_ids, worker],
        )

    def _failed(self, exception: BaseException) -> Any:
        return self._results.change(
            self,
            status=self._framework.status.FAILED,
            finished_at=timezone.now(),
            errors=self._errors_with(exception),
        )

    def _wait_for_attempt(self, exception: BaseException) -> None:
        status = self._framework.status.READY
        self._results.change(self, status=status, errors=self._errors_with(exception))

    def _errors_with(self, exception: BaseException) -> list[Any]:
        raised = type(exception)
        error = self._framework.error(
            exception_class_path=f"{raised.__module__}.{raised.__qualname__}",
            traceback="".join(format_exception(exception)),
        )
        return [*self.result.errors, error]

    def _succeeded(self, returned: Any) -> Any:
        return self._results.change(
            self,
            status=self._framework.status.SUCCESSFUL,
            finished_at=timezone.now(),
            _return_value=returned,
        )

    def _arguments(self, result: Any) -> tuple[list[Any], dict[str, Any]]:
        """The arguments of the function, which may change them."""
        result = own_copy(result)
        first = [self._framework.context(task_result=result)] if result.task.takes_context else []
        return [*first, *result.args], result.kwargs


class PlainCall(Call):
    """That of a plain function."""

    __slots__ = ()

    def __call__(self) -> None:
        """Run the task, unless it has ended before."""
        begun = self._begun()
        if begun is None:
            return
        framework, sender = self._framework, self._sender
        try:
            framework.started.send(sender, task_result=begun)
            args, kwargs = self._arguments(begun)
            returned = framework.normalize_json(begun.task.call(*args, **kwargs))
        except BaseException as exc:  # also what a task should not raise: its worker goes on
            if not self.is_tried_again:  # else it is told what becomes of the attempt
                self.fail(exc)
            raise
        framework.finished.send(sender, task_result=self._succeeded(returned))


class AsyncCall(Call):
    """That of a coroutine function.

    Receivers are called in a thread, as those of a plain function are, and so may use the
    database. ``asend`` would not do: they would not find the exception in ``sys.exc_info()``.
    """

    __slots__ = ()

    async def __call__(self) -> None:
        """Run the task, unless it has ended before."""
        begun = self._begun()
        if begun is None:
            return
        framework, sender = self._framework, self._sender
        try:
            await sync_to_async(framework.started.send)(sender, task_result=begun)
            args, kwargs = self._arguments(begun)
            returned = framework.normalize_json(await begun.task.acall(*args, **kwargs))
        except GeneratorExit as exc:  # thrown away with its loop: there is none to wait on
            self.fail(exc)
            raise
        except BaseException as exc:
            if not self.is_tried_again:
                result = self._failed(exc)
                await sync_to_async(framework.finished.send)(sender, task_result=result)
            raise
        result = self._succeeded(returned)
        await sync_to_async(framework.finished.send)(sender, task_result=result)


def _refuse(event: TaskEvent) -> None:
    """Raise it, so that a receiver finds it in ``sys.exc_info()`` as when a task fails."""
    raise NotRunError(f"the task was {event.kind} before it began") from event.exception


def call_of(backend: Any, task: Any, args: Any, kwargs: Any) -> PlainCall | AsyncCall:
    """Return what is to be called for a task; see `Call`."""
    kind = AsyncCall if iscoroutinefunction(task.func) else PlainCall
    return kind(backend, task, args, kwargs)


_lock = threading.RLock()
_stores: dict[tuple[type, str], Results] = {}  # guarded by _lock


def results_of(backend: type, alias: str, limit: int) -> Results:
    """Return the results of a backend: it has an object in each thread, and they share these."""
    with _lock:
        results = _stores.setdefault((backend, alias), Results(limit))
        results.limit = limit
        return results


def _reset_after_fork() -> None:
    global _lock
    _lock = threading.RLock()
    for results in _stores.values():
        results.reset_after_fork()


reset_in_child(__name__, _reset_after_fork)
