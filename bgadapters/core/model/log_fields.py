"""What a log record says of tasks beside its message: the keys of ``extra=``.

Formatters and pipelines rely on these names; ``docs/in-production.md`` lists them. What does not
apply is left out. Arguments of tasks are never among them.
"""

from __future__ import annotations

from collections.abc import Sequence

from bgadapters.core.model.event import TaskEvent

_MOST_NAMES = 20  # as many as the message has


def of(event: TaskEvent) -> dict[str, object]:
    """Return the fields of a record about one task."""
    exception = event.exception
    return _given(
        task_name=event.name,
        task_id=event.task_id,
        task_attempt=event.attempt,
        task_wait=_seconds(event.wait),
        task_duration=_seconds(event.duration),
        **_of_the_queue(event),
        exception_type=None if exception is None else _type_of(exception),
    )


def of_all(events: Sequence[TaskEvent]) -> dict[str, object]:
    """Return the fields of a record about tasks that have ended alike, at least one.

    Those of several queues have no queue and no request in common.
    """
    first = events[0]
    if len(events) == 1:
        return {**of(first), "task_names": [first.name]}
    exception = first.exception
    is_one_queue = len({event.queue_id for event in events}) == 1
    return _given(
        task_names=[event.name for event in events[:_MOST_NAMES]],
        task_outcome=first.outcome,
        task_reason=first.reason,
        exception_type=None if exception is None else _type_of(exception),
    ) | (_of_the_queue(first) if is_one_queue else {})


def _of_the_queue(event: TaskEvent) -> dict[str, object]:
    return _given(
        queue_id=event.queue_id,
        task_outcome=event.outcome,
        task_reason=event.reason,
        request_method=event.method,
        request_path=event.path,
    )


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _type_of(exception: BaseException) -> str:
    kind = type(exception)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _seconds(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
