"""What the backend for Django's tasks framework and that for its backport share: all but names.

A task that is enqueued while a response is made goes into the queue of that response, with its
priority and its time as options. Where no response is made it gets a queue of its own, which is
released at once, or when the transaction around it is committed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from bgadapters.adapters import (
    BackgroundTasks,
    NoResponseError,
    QueueClosedError,
    TaskOptions,
    current_queue,
    marked_options,
)
from bgadapters.django.checks import check_backend
from bgadapters.django.runtime import get_runtime
from bgadapters.django.task_results import (
    AsyncCall,
    Framework,
    PlainCall,
    call_of,
    own_copy,
    results_of,
)

_MAX_RESULTS = 1000


class PostResponse:
    """The methods of a backend, above the framework's own ``BaseTaskBackend``.

    Args:
        alias: its key in ``TASKS``.
        params: its value there. ``"OPTIONS"`` may have ``"MAX_RESULTS"``, the number of results
            that are kept of finished tasks, 1000 by default.

    Raises:
        ImproperlyConfigured: an option that is unknown or has a value that it does not accept.
    """

    framework: ClassVar[Framework]
    alias: str

    supports_async_task = True
    supports_priority = True
    supports_defer = True
    supports_get_result = False  # it speaks for any process, and results are in this one alone

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)  # type: ignore[call-arg]  # the framework's
        self.result_store = results_of(
            type(self), alias, _max_results(alias, params.get("OPTIONS", {}))
        )

    def validate_task(self, task: Any) -> None:
        """Refuse a task that cannot be run.

        Raises:
            InvalidTask: as the framework's own backends, and for a ``run_after`` that is no time.
        """
        if task.run_after is not None and not isinstance(task.run_after, datetime):
            raise self.framework.invalid_task(
                f"run_after accepts a datetime or None, not {task.run_after!r}."
            )
        super().validate_task(task)  # type: ignore[misc]  # the framework's

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Have a task run after the response that is being made, or at once where none is.

        Returns:
            Its result as of now; ``refresh()`` brings it up to date.

        Raises:
            InvalidTask: the task cannot be run.
            TypeError, ValueError: an argument that JSON does not know.
            QueueFullError: there is no room, see the settings ``max_pending`` and ``on_full``.
        """
        self.validate_task(task)
        options = _options_of(task)
        call = call_of(self, task, args, kwargs)
        response = _queue_of_response()
        queue = BackgroundTasks(runtime=get_runtime()) if response is None else response
        call.is_tried_again = options.over(queue.runtime.default_options).retries > 0
        try:
            queue.options(options).add_task(call)
        except QueueClosedError:  # a thread that its response did not wait for
            queue, response = BackgroundTasks(runtime=queue.runtime), None
            queue.options(options).add_task(call)
        first = own_copy(call.result)
        try:
            self._tell(call)
        except BaseException as exc:
            if response is None:
                queue.close(exc)
            raise
        if response is None:
            queue.release()
        return first

    def get_result(self, result_id: str) -> Any:
        """Return the result of a task that was enqueued in this process.

        Raises:
            TaskResultDoesNotExist: there is none: it is another process's, or of a task that
                finished before ``MAX_RESULTS`` others.
        """
        result = self.result_store.get(result_id)
        if result is None:
            raise self.framework.no_result(result_id)
        return result

    async def aget_result(self, result_id: str) -> Any:
        """Do as `get_result`."""
        return self.get_result(result_id)

    def check(self, **kwargs: Any) -> list[checks.CheckMessage]:
        """Do the framework's checks, and W006 of ``bgadapters``."""
        found = super().check(**kwargs)  # type: ignore[misc]  # the framework's
        return [*found, *check_backend(self.alias)]

    def _tell(self, call: PlainCall | AsyncCall) -> None:
        try:
            self.framework.enqueued.send(type(self), task_result=call.result)
        except BaseException as exc:  # a receiver's: for its caller the task is not enqueued
            call.fail(exc)
            raise


def _max_results(alias: str, options: Any) -> int:
    if not isinstance(options, dict):
        raise ImproperlyConfigured(
            f"TASKS[{alias!r}]['OPTIONS'] accepts a dictionary, not {options!r}"
        )
    unknown = [name for name in options if name != "MAX_RESULTS"]
    if unknown:
        raise ImproperlyConfigured(
            f"TASKS[{alias!r}]['OPTIONS'] accepts 'MAX_RESULTS', not {unknown[0]!r}"
        )
    limit = options.get("MAX_RESULTS", _MAX_RESULTS)
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
        raise ImproperlyConfigured(
            f"TASKS[{alias!r}]['OPTIONS']['MAX_RESULTS'] accepts a whole number from 0, "
            f"not {limit!r}"
        )
    return limit


def _queue_of_response() -> BackgroundTasks | None:
    try:
        queue: BackgroundTasks = current_queue()
    except NoResponseError:
        return None
    return queue


def _options_of(task: Any) -> TaskOptions:
    """Those of its function; the framework's own priority and time go before them."""
    options = TaskOptions(name=task.module_path)
    own = marked_options(task.func)
    if own is not None:
        options = own.based_on(options)
    if task.priority:
        options = TaskOptions(options, priority=task.priority)
    if task.run_after is not None:
        options = TaskOptions(options, run_after=task.run_after)
    return options
