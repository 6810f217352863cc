"""A suite whose first test leaves a task at work, to be run in this order."""

from __future__ import annotations

import threading

from bgadapters import BackgroundTasks
from bgadapters.testing import Recorder

may_end = threading.Event()
has_begun = threading.Event()
threads: list[threading.Thread] = []


def stay(queue: BackgroundTasks) -> None:
    has_begun.set()
    may_end.wait(10)
    queue.add_task(print, "more")
    raise ValueError("too late for its own test")


def leave() -> None:
    with BackgroundTasks() as queue:
        queue.add_task(stay, queue)
        queue.add_task(print, "never")


def test_fails_and_names_what_it_leaves() -> None:
    threads.append(threading.Thread(target=leave, daemon=True))
    threads[0].start()
    has_begun.wait(10)


def test_the_next_one_hears_nothing_of_it(background_tasks: Recorder) -> None:
    may_end.set()
    threads[0].join(10)
    assert not threads[0].is_alive()
    background_tasks.assert_none()
