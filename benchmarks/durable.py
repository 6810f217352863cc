"""What it costs to keep a task before the response begins, beside memory and beside Huey."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from huey import SqliteHuey  # pyright: ignore[reportMissingImports]

from benchmarks import stored, workflows
from benchmarks.measure import Effort, Samples, interleave
from benchmarks.results import Table, Topic, cell
from benchmarks.work import TALLY, noop
from bgadapters import BackgroundTasks
from bgadapters.adapters import Runtime, Settings

PER_RESPONSE = (1, 10)
AT_ONCE = 8
_TASKS = 400
_MEMORY, _OURS, _HUEY = "in memory", "bgadapters", "Huey's enqueue"
_PLAIN = "in memory, without options"
_ROUNDS_OF_LOG = 6  # of responses with one task, until no log of SQLite's grows any more
_LEVELS = {"NORMAL": 1, "FULL": 2}
"""How SQLite numbers its levels of ``synchronous``."""

Case = Callable[[], float]


def _queue(runtime: Runtime, tasks: int, is_durable: bool | None) -> None:
    """One response, as a gateway of WSGI makes it; None for tasks without options."""
    queue = BackgroundTasks(runtime=runtime)
    adder = queue if is_durable is None else queue.options(durable=is_durable)
    for _ in range(tasks):
        adder.add_task(noop)
    queue.confirm()
    queue.release()


def _until_run(runtime: Runtime, tasks: int, is_durable: bool | None) -> float:
    """The seconds a task takes until the last one has run."""
    TALLY.expect(_TASKS)
    started = time.perf_counter()
    for _ in range(_TASKS // tasks):
        _queue(runtime, tasks, is_durable)
    TALLY.wait()
    return (time.perf_counter() - started) / _TASKS


def _at_once(runtime: Runtime, pool: ThreadPoolExecutor, is_durable: bool) -> float:
    """The seconds a response with one task takes where several are made at a time."""
    TALLY.expect(_TASKS)
    started = time.perf_counter()
    for made in [pool.submit(_queue, runtime, 1, is_durable) for _ in range(_TASKS)]:
        made.result()
    taken = (time.perf_counter() - started) / _TASKS
    TALLY.wait()
    return taken


def _until_kept(runtime: Runtime, tasks: int, runs_meanwhile: bool) -> float:
    """The seconds a task takes until it is in the store: for that alone a response waits.

    Args:
        runtime: the application.
        tasks: how many each response has.
        runs_meanwhile: whether those of the responses before run meanwhile, and are deleted.
    """
    TALLY.expect(_TASKS)
    queues = [BackgroundTasks(runtime=runtime) for _ in range(_TASKS // tasks)]
    taken = 0.0
    for queue in queues:
        started = time.perf_counter()
        adder = queue.options(durable=True)
        for _ in range(tasks):
            adder.add_task(noop)
        queue.confirm()
        taken += time.perf_counter() - started
        if runs_meanwhile:
            queue.release()
    for queue in queues:
        queue.release()  # which does nothing the second time
    TALLY.wait()
    runtime.drain()  # or what is left to be deleted would be so beside the next case
    return taken / _TASKS


def _in_thread(gateway: ThreadPoolExecutor, case: Case) -> float:
    return gateway.submit(case).result()


class _Huey(SqliteHuey):  # type: ignore[misc]
    """Huey, with a level of ``synchronous`` of our choice: it knows OFF and FULL alone."""

    def __init__(self, file: Path, level: str) -> None:
        super().__init__("benchmark", filename=str(file))
        storage: Any = self.storage  # of Huey's kinds that of SQLite
        storage.conn.execute(f"PRAGMA synchronous={_LEVELS[level]}")
        self.note = self.task()(noop)


def _enqueue(huey: _Huey, tasks: int) -> float:
    started = time.perf_counter()
    for _ in range(_TASKS // tasks):
        for _ in range(tasks):
            huey.note()
    taken = (time.perf_counter() - started) / _TASKS
    huey.storage.flush_queue()
    return taken


@contextmanager
def cases(level: str) -> Iterator[dict[str, Case]]:
    """Every case, named ``how/tasks/who``, at a level of ``synchronous``."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=".")))
        pool = stack.enter_context(ThreadPoolExecutor(AT_ONCE))
        gateway = stack.enter_context(ThreadPoolExecutor(1))  # whose requests have threads
        url = f"sqlite:///{directory.absolute()}/ours.db?synchronous={level}"
        runtime = Runtime(Settings(store=url, task_modules=[noop.__module__]))
        stack.callback(runtime.close)
        memory = Runtime()
        huey = gateway.submit(_Huey, directory / "huey.db", level).result()  # the thread's own
        found: dict[str, Case] = {}
        for tasks in PER_RESPONSE:
            found[f"run/{tasks}/{_OURS}"] = partial(_until_run, runtime, tasks, True)
            found[f"run/{tasks}/{_MEMORY}"] = partial(_until_run, memory, tasks, False)
            found[f"run/{tasks}/{_PLAIN}"] = partial(_until_run, memory, tasks, None)
            found[f"kept/{tasks}/{_OURS}"] = partial(_until_kept, runtime, tasks, False)
            found[f"beside/{tasks}/{_OURS}"] = partial(_until_kept, runtime, tasks, True)
            found[f"kept/{tasks}/{_HUEY}"] = partial(_enqueue, huey, tasks)
        found = {name: partial(_in_thread, gateway, case) for name, case in found.items()}
        for name in [f"kept/1/{_OURS}", f"kept/1/{_HUEY}"] * _ROUNDS_OF_LOG:
            found[name]()
        found[f"at once/1/{_OURS}"] = partial(_at_once, runtime, pool, True)
        found[f"at once/1/{_MEMORY}"] = partial(_at_once, memory, pool, False)
        yield found


def _other(how: str, tasks: int, whose: str) -> str:
    """Return the case that one of ours is beside: nothing of Huey's runs in either."""
    return f"{'kept' if how == 'beside' else how}/{tasks}/{whose}"


def beside_dbos(effort: Effort) -> tuple[Table, dict[str, Samples]]:
    """Measure beside workflows of DBOS, at the level that these have."""
    with cases("FULL") as found:
        ours = {
            f"{how}/{tasks}": found[f"{how}/{tasks}/{_OURS}"]
            for how in ("kept", "run")
            for tasks in PER_RESPONSE
        }
        table, ratios = workflows.measure(ours, effort)
    return table, {f"durable/dbos/{name}": ratio for name, ratio in ratios.items()}


def measure(effort: Effort) -> Topic:
    """Measure at both levels, and beside DBOS."""
    tables, ratios = [], dict[str, Samples]()
    for level in _LEVELS:
        with cases(level) as ways:
            found = interleave(ways, effort.rounds)
        rows = []
        for how, theirs, title in (
            ("run", _MEMORY, "one after the other, until all have run"),
            ("run", _PLAIN, "one after the other, until all have run"),
            ("kept", _HUEY, "one after the other, until they are kept"),
            ("beside", _HUEY, "the same, while those before them run"),
            ("at once", _MEMORY, f"{AT_ONCE} at a time, until they are answered"),
        ):
            for tasks in PER_RESPONSE[: 1 if how == "at once" else None]:
                ours, other = found[f"{how}/{tasks}/{_OURS}"], found[_other(how, tasks, theirs)]
                key = f"durable/{level}/{'plain' if theirs is _PLAIN else how}/{tasks}"
                ratio = ratios[key] = ours.per(other)
                rows.append(
                    (title, str(tasks), theirs, cell(ours, 1e6), cell(other, 1e6), cell(ratio))
                )
        head = ("responses", "tasks", "beside", "durable, us a task", "the other, us", "ratio")
        tables.append(Table(f"SQLite, synchronous={level}", head, rows))
    for compare in (beside_dbos, stored.p99, stored.without):
        table, found = compare(effort)
        tables.append(table)
        ratios |= found
    return Topic(
        "Durable tasks",
        "A queue is made, durable no-op tasks are added and kept, and the queue is released, as a "
        "gateway of WSGI does it. Beside it the same tasks in memory, added with durable=False and "
        "without any option, and what Huey takes to put a task into a file of SQLite at the same "
        "level. Both files were in use before, until their logs did not grow any more: to sync a "
        "file that grows takes longer, and a server has such a log most of the time. Nobody runs "
        "Huey's tasks meanwhile: another process would. So the bars compare keeping them alone, "
        "which is what a response waits for before it begins. Ours run in the same process, and "
        "the third figure has those of the responses before run at the same time and deleted from "
        "the store. Then DBOS, whose workflows are kept before they run, and stay. At last a view "
        "on real servers with a durable task, beside one with a task in memory that waits until a "
        "page of a file is on the disk, requests being due at a constant rate; and requests with a "
        "task in memory, in applications with a store and without one.",
        tables,
        [],
        ratios,
    )
