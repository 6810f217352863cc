"""A signal handler may come at any line of ours, and use queues as any other code does.

A trace function stands for the handler. It is called in the main thread between any two lines of
the package, which is more often than signals are handled.
"""

from __future__ import annotations

import pytest

from tests.core.ways import lines_of

_SCRIPT = """
import faulthandler, logging, sys
from collections import Counter
import bgadapters
from bgadapters import BackgroundTasks, NoResponseError, QueueClosedError, QueueFullError
from bgadapters.adapters import Runtime, Settings
from bgadapters.core import host
from bgadapters.core.drivers import in_flight
from tests.core import durable_tasks
from tests.core.memory_store import MemoryStore

logging.disable()
# A handler that comes where the main thread holds a lock that workers need waits for them in vain.
in_flight._LONGEST_FOR_ONE = 0.1
faulthandler.dump_traceback_later(30, exit=True)  # which names what has stopped for good
kind, how = sys.argv[1:]
told, lines = Counter(), Counter()

def task():
    told["ran"] += 1

async def atask():
    told["ran"] += 1

store = MemoryStore()

def add(adder):
    durable = {"sync": durable_tasks.note, "async": durable_tasks.anote}[kind]
    try:
        if how == "durable":
            adder(durable, 1)
        else:
            adder(atask if kind == "async" else task)
    except (NoResponseError, QueueClosedError, QueueFullError):
        pass
    else:
        told["taken"] += 1

def handler():
    told["handled"] += 1
    with BackgroundTasks(runtime=runtime) as queue:
        add(queue.options(**controls.get(how, {})).add_task)
    add(bgadapters.add_task)  # to the queue that the main thread is about to release

def trace(frame, event, arg):
    if not frame.f_globals.get("__name__", "").startswith("bgadapters."):
        return None
    where = frame.f_code, frame.f_lineno
    if event == "line" and lines[where] < 5:
        lines[where] += 1
        sys.settrace(None)
        handler()
        sys.settrace(trace)
    return trace

controls = {
    "controlled": {"key": "k", "concurrency": "slow"},
    "durable": {"durable": True, "key": "k"},
}
settings = {
    "plain": Settings(),
    "full": Settings(max_pending=3, max_workers=1),
    "reject": Settings(max_pending=30, on_full="reject"),
    "no threads": Settings(),
    "controlled": Settings(
        concurrency={"slow": 1}, on_event=lambda event: told.update([event.kind])
    ),
    "durable": Settings(
        store=store,
        task_modules=["tests.core.durable_tasks"],
        on_event=lambda event: told.update([event.kind]),
    ),
    "discard": Settings(on_event=lambda event: told.update([event.kind])),
}
if how == "no threads":
    host.has_threads = lambda: False
runtime = Runtime(settings[how])
sys.settrace(trace)
for number in range(20):
    with BackgroundTasks(runtime=runtime) as queue:
        add(queue.add_task)
        add(queue.options(always=True).add_task)
        if how in controls:
            add(queue.options(**controls[how]).add_task)
            add(queue.options(priority=5, **controls[how]).add_task)
        if how == "durable":
            queue.confirm()
        if how == "discard":
            queue.discard(KeyError())
sys.settrace(None)
left = bgadapters.drain(20)
ended = told["ran"] + len(durable_tasks.happened) + told["discarded"] + told["replaced"]
print(left, runtime.in_flight.in_use, told["taken"] - ended)
assert not store.database.ids()
print(len(lines) > 50 and told["handled"] > 200)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    "how", ["plain", "full", "reject", "no threads", "discard", "controlled", "durable"]
)
def test_a_signal_handler_that_adds_tasks_stops_and_loses_nothing(kind: str, how: str) -> None:
    first, second = lines_of(_SCRIPT, kind, how)
    assert (first, second) == ("[] 0 0", "True")
