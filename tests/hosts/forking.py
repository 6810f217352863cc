"""A process with live workers and a live loop that makes a child: ``python -m ... METHOD``."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading

from bgadapters import BackgroundTasks, drain
from tests.hosts.events import report
from tests.hosts.journal import RUN, async_task, task

PARENTS = ("before", "before, async", "held", "waiting, async", "waiting", "after", "after, async")
CHILDS = ("child", "child, async", "child, last")


def child() -> None:
    """Add tasks and end, as any function does that knows nothing of drains."""
    with BackgroundTasks() as tasks:
        tasks.add_task(task, "child", 0.1)
        tasks.add_task(async_task, "child, async", 0.1)
        tasks.add_task(task, "child, last")


def main(method: str) -> None:
    with BackgroundTasks() as tasks:
        # with a report, so that no worker imports anything while this process forks
        tasks.add_task(task, "before", 0.0, f"before {os.environ[RUN]}")
        tasks.add_task(async_task, "before, async")
    drain()
    began = threading.Event()
    with BackgroundTasks() as tasks:
        tasks.add_task(began.set)
        tasks.add_task(task, "held", 0.0, os.environ[RUN])
        tasks.add_task(async_task, "waiting, async")
        tasks.add_task(task, "waiting")
    began.wait()
    if method == "os.fork":
        pid = os.fork()
        if not pid:
            child()
            return
        _, status = os.waitpid(pid, 0)
        code: int | None = os.waitstatus_to_exitcode(status)
    else:
        process = multiprocessing.get_context(method).Process(target=child)  # type: ignore[attr-defined]
        process.start()
        process.join()
        code = process.exitcode
    report(os.environ[RUN], f"child ended with {code}")
    with BackgroundTasks() as tasks:
        tasks.add_task(task, "after")
        tasks.add_task(async_task, "after, async")


if __name__ == "__main__":
    main(sys.argv[1])
