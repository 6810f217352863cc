"""What log records say beside their message, as formatters write it."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from pythonjsonlogger.json import JsonFormatter

from bgadapters import BackgroundTasks
from bgadapters.core.model import guard
from tests.core.ways import MakeRuntime, in_threads, reached

SECRET = "4929-1234"


class Declined(Exception):
    """An exception of an application's own."""


def charge(card: str) -> None:
    raise Declined("no")


def structlog_formatter() -> logging.Formatter:
    """As structlog's documentation has it for records of other libraries."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder()],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )


@pytest.fixture(params=[JsonFormatter, structlog_formatter])
def lines(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return the lines that a formatter has written, parsed."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param())
    guard.logger.addHandler(handler)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    guard.logger.removeHandler(handler)


def queue_of(make_runtime: MakeRuntime, **settings: Any) -> BackgroundTasks:
    return BackgroundTasks(runtime=make_runtime(**settings), path="/orders", method="POST")


def test_a_failure(make_runtime: MakeRuntime, lines: Any) -> None:
    queue = queue_of(make_runtime)
    queue.add_task(charge, SECRET)
    in_threads(queue)
    (line,) = lines()
    assert SECRET not in str(line)
    fields = {name: line[name] for name in line if name.startswith(("task_", "req", "exception_"))}
    assert isinstance(fields.pop("task_id"), str)
    assert 0 <= fields.pop("task_wait") < 10
    assert 0 <= fields.pop("task_duration") < 10
    assert isinstance(line["queue_id"], str)
    assert fields == {
        "task_name": "tests.core.test_log_fields.charge",
        "task_attempt": 1,
        "task_outcome": "failed",
        "exception_type": "tests.core.test_log_fields.Declined",
        "request_method": "POST",
        "request_path": "/orders",
    }


def test_a_discard_names_all_of_its_tasks(make_runtime: MakeRuntime, lines: Any) -> None:
    queue = queue_of(make_runtime)
    for number in range(25):
        queue.options(name=f"task {number}").add_task(charge, SECRET)
    queue.close(KeyError("view"))
    (line,) = lines()
    assert SECRET not in str(line)
    assert line["task_names"] == [f"task {number}" for number in range(20)]  # as in the message
    assert line["task_outcome"] == "discarded"
    assert line["task_reason"] == "the response failed with KeyError: 'view'"
    assert line["exception_type"] == "KeyError"
    assert (line["request_method"], line["request_path"]) == ("POST", "/orders")
    assert "task_id" not in line


def test_a_discard_of_one_task_has_its_id_as_well(make_runtime: MakeRuntime, lines: Any) -> None:
    queue = queue_of(make_runtime)
    queue.options(name="one").add_task(charge, SECRET)
    queue.close(KeyError("view"))
    (line,) = lines()
    assert (line["task_name"], line["task_names"]) == ("one", ["one"])
    assert line["task_id"]
    assert "task_wait" not in line


def test_what_is_abandoned_of_several_requests_has_no_request(
    make_runtime: MakeRuntime, lines: Any
) -> None:
    runtime = make_runtime()
    may_end, finished = threading.Event(), []
    for path in "/one", "/two":
        queue = BackgroundTasks(runtime=runtime, path=path)
        queue.options(name=path).add_task(reached, may_end)
        queue.release()
        finished.append(threading.Event())
        assert queue.batch.on_finished(finished[-1].set)
    runtime.drain(0)
    may_end.set()
    for each in finished:
        reached(each)
    (line,) = lines()
    assert sorted(line["task_names"]) == ["/one", "/two"]
    assert line["task_outcome"] == "abandoned"
    assert line["task_reason"] == "not finished within the drain timeout of 0 s"
    assert not {"queue_id", "request_path", "exception_type"} & set(line)


def test_starts_and_ends_at_debug(
    make_runtime: MakeRuntime, lines: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "bgadapters")
    queue = queue_of(make_runtime)
    queue.options(name="task").add_task(int)
    in_threads(queue)
    started, succeeded = lines()
    assert started["task_id"] == succeeded["task_id"]
    assert "task_outcome" not in started
    assert "task_duration" not in started
    assert succeeded["task_outcome"] == "succeeded"
    assert succeeded["task_duration"] >= 0


def test_the_fields_are_there_where_a_message_would_forge_lines(
    make_runtime: MakeRuntime, lines: Any
) -> None:
    """Our own records, which are made in another way."""

    def fail() -> None:
        raise Declined("one\x00two")

    queue = queue_of(make_runtime)
    queue.options(name="task").add_task(fail)
    in_threads(queue)
    (line,) = lines()
    assert (line["task_name"], line["task_outcome"]) == ("task", "failed")
