"""What a durable task costs beside a workflow of DBOS, which keeps its state in SQLite as well.

``python -m benchmarks.workflows FILE`` is a process with DBOS: for each name of a case on its
standard input it prints the seconds that a workflow takes. So its threads, which look for work all
the time, do not slow down what is measured beside it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.measure import Effort, Samples, interleave
from benchmarks.results import Table, cell
from benchmarks.server import ROOT
from benchmarks.work import TALLY, noop

HAS_DBOS = find_spec("dbos") is not None
CASES = ("kept/start_workflow", "kept/enqueue", "run/start_workflow")
_WORKFLOWS = 100  # a round; each takes milliseconds
_MISSING = "DBOS is not installed, so it was not compared."
_NOTE = (
    "A workflow that does nothing but count, in a process with a database of SQLite's that DBOS "
    "sets up by itself. It is started or enqueued once for each task. A queue looks for work once "
    "a second, so until when all that was enqueued have run is not said. A SQLite before 3.42 is "
    "given the function `unixepoch` that DBOS needs, written in Python."
)
_TITLES = {"kept": "until they are kept", "run": "until all have run"}

Case = Callable[[], float]


def measure(ours: Mapping[str, Case], effort: Effort) -> tuple[Table, dict[str, Samples]]:
    """Measure durable tasks beside workflows.

    Args:
        ours: what returns the seconds that a task takes, by ``how/tasks``, as ``kept/10``.
        effort: how much.

    Returns:
        A table, and the ratios by ``how/tasks/what DBOS does``; none where it is not installed.
    """
    title = "Beside DBOS, SQLite, synchronous=FULL"
    head = ("responses", "tasks", "beside", "durable, us a task", "DBOS, us", "ratio")
    if not HAS_DBOS:
        return Table(title, head, [(_MISSING, *[""] * 5)]), {}
    with _process() as seconds:
        theirs = {name: partial(seconds, name) for name in CASES}
        found = interleave({**ours, **theirs}, effort.fewer)  # most are far from their bars
    rows, ratios = [], dict[str, Samples]()
    for name in CASES:
        how, _, what = name.partition("/")
        for case in ours:
            if case.startswith(f"{how}/"):
                tasks = case.removeprefix(f"{how}/")
                ratio = ratios[f"{case}/{what}"] = found[case].per(found[name])
                said = (cell(found[case], 1e6), cell(found[name], 1e6), cell(ratio))
                rows.append((_TITLES[how], tasks, f"DBOS, {what}", *said))
    return Table(title, head, rows, _NOTE), ratios


@contextmanager
def _process() -> Iterator[Callable[[str], float]]:
    """A process with DBOS, as a function that runs a case there."""
    with tempfile.TemporaryDirectory(dir=".") as directory:
        command = [sys.executable, "-m", __name__, str(Path(directory).absolute() / "dbos.db")]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:

            def seconds(name: str) -> float:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(f"{name}\n")
                process.stdin.flush()
                return float(process.stdout.readline())

            yield seconds


# In that process.


def main(file: str) -> None:
    """Run the cases that are asked for."""
    import sqlalchemy.event
    from dbos import DBOS, Queue  # pyright: ignore[reportMissingImports]

    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", _give_it_milliseconds)
    DBOS(
        config={
            "name": "benchmark",
            "system_database_url": f"sqlite:///{file}",
            "log_level": "ERROR",
        }
    )
    queue, workflow = Queue("benchmark"), DBOS.workflow()(_count)
    DBOS.launch()
    start = partial(DBOS.start_workflow, workflow)
    cases = {
        "kept/start_workflow": partial(_seconds, start),
        "kept/enqueue": partial(_seconds, partial(queue.enqueue, workflow)),
        "run/start_workflow": partial(_seconds, start, until_run=True),
    }
    for line in sys.stdin:
        print(cases[line.strip()](), flush=True)
    DBOS.destroy()


def _give_it_milliseconds(connection: Any, _: Any) -> None:
    if connection.execute("SELECT unixepoch('subsec')").fetchone()[0] is None:
        connection.create_function("unixepoch", 1, lambda _: time.time())


def _count() -> None:
    noop()


def _seconds(start: Callable[[], Any], until_run: bool = False) -> float:
    """The seconds that a workflow takes until it is kept, or until the last one has run."""
    TALLY.expect(_WORKFLOWS)
    started = time.perf_counter()
    handles = [start() for _ in range(_WORKFLOWS)]
    if until_run:
        TALLY.wait()
    taken = time.perf_counter() - started
    for handle in handles:  # that they have ended is written: it slows nothing else down
        handle.get_result()
    TALLY.wait()
    return taken / _WORKFLOWS


if __name__ == "__main__":
    main(sys.argv[1])
