"""A task object of another framework, which cannot be called, is enqueued when its turn comes."""

from __future__ import annotations

from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core.model.task import EnqueueCall, callable_name, examined
from tests.core.ways import Log, Run


async def send_mail() -> None: ...


class TaskObject:
    """As frameworks for tasks make them of a function."""

    def __init__(self, log: Log, func: Any = send_mail) -> None:
        self.func = func
        self.log = log

    def enqueue(self, *args: Any, **kwargs: Any) -> object:
        self.log.append((args, kwargs))
        return self


def test_it_is_enqueued_in_its_turn(queue: BackgroundTasks, log: Log, run: Run) -> None:
    task: Any = TaskObject(log)
    queue.add_task(log.append, "before")
    queue.add_task(task, 1, two=2)
    queue.options(name="audit").add_task(task)
    assert log == []
    run(queue)
    assert log == ["before", ((1,), {"two": 2}), ((), {})]


def test_it_is_called_what_its_function_is_called(log: Log) -> None:
    assert callable_name(EnqueueCall(TaskObject(log))) == callable_name(send_mail)
    del (task := TaskObject(log)).func
    assert callable_name(EnqueueCall(task)) == callable_name(TaskObject)


def test_it_is_sync_whatever_its_function_is(log: Log) -> None:
    """For its function is not called here."""
    func, is_async = examined(TaskObject(log))
    assert isinstance(func, EnqueueCall)
    assert not is_async


def test_what_can_be_called_is_called(queue: BackgroundTasks, log: Log, run: Run) -> None:
    """Though it can be enqueued as well."""

    class Both(TaskObject):
        def __call__(self) -> None:
            log.append("called")

    queue.add_task(Both(log))
    run(queue)
    assert log == ["called"]


@pytest.mark.parametrize("what", [None, 1, "enqueue", type("NotIt", (), {"enqueue": 1})()])
def test_what_can_be_neither_is_refused(queue: BackgroundTasks, what: Any) -> None:
    with pytest.raises(TypeError, match="which cannot be called"):
        queue.add_task(what)
