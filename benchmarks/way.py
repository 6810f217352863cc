"""``python -m benchmarks.way``: the way of one task through the package, on real servers.

It counts, for one request and its task,

- calls: the functions of the package that are called. A function belongs to the package if its
  file is in ``bgadapters/``, whatever that is called there. A coroutine or generator counts once,
  when it begins, and not each time it goes on. A list, set or dict comprehension is not a
  function, since newer Pythons make none of it; a lambda, a property or a special method is.
- changes of module: how often a call is in another module than the call before it, all threads
  together, in the order of time.
- modules: those that were called. What is above ``modules - 1`` among the changes comes back to
  a module that was left.

The first call is the one by which the request enters the package. The last one is that after
which nothing is noted for a tenth of a second, the response having ended and the task having run:
so what puts the queue away counts too. A look at the clock that comes later belongs to whichever
request is under way.

A server answers some requests first, so that imports, set-up and the start of threads are over.
The figures are those of one request: of five, the middle one by calls, then by changes.
``--list`` prints its calls: ``>`` where the module changes, and the thread where that changes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from urllib.request import urlopen

from benchmarks.apps.recorder import CALLS, FINISHED
from benchmarks.server import running
from benchmarks.work import PATIENCE, LostTasksError

_WARM_UP = 20  # requests
_REQUESTS = 5
_QUIET = 0.1  # seconds
_GUNICORN = ("gunicorn", "--bind", "127.0.0.1:{port}", "--log-level", "error", "--threads", "4")
_UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "error", "--no-access-log")


class Host(NamedTuple):
    """A framework on a server.

    Attributes:
        name: what the table calls it.
        command: the server's arguments, after ``python -m``.
        tasks: how many a request adds.
    """

    name: str
    command: Sequence[str]
    tasks: int


HOSTS = (
    Host(
        "FastAPI, init_app, a sync and an async task, uvicorn",
        (*_UVICORN, "benchmarks.apps.way_fastapi:application"),
        2,
    ),
    Host(
        "Flask, an async task, gunicorn gthread",
        (*_GUNICORN, "benchmarks.apps.way_flask:application"),
        1,
    ),
    Host(
        "Django, a task in atomic(), gunicorn gthread",
        (*_GUNICORN, "benchmarks.apps.way_django:application"),
        1,
    ),
)


class Call(NamedTuple):
    """One call of a function of the package.

    Attributes:
        thread: the name of the thread that made it.
        module: where the function is, below the package.
        function: its qualified name.
    """

    thread: str
    module: str
    function: str


class Way(NamedTuple):
    """What one request and its tasks have called, in the order of time."""

    calls: Sequence[Call]

    @property
    def changes(self) -> int:
        """How often a call is in another module than the one before it."""
        return sum(before.module != call.module for before, call in pairwise(self.calls))

    @property
    def modules(self) -> int:
        """How many modules were called."""
        return len({call.module for call in self.calls})

    def listed(self) -> str:
        """One line a call."""
        lines = []
        before = Call("", "", "")
        for number, call in enumerate(self.calls, 1):
            mark = ">" if call.module != before.module else " "
            thread = f"  [{call.thread}]" if call.thread != before.thread else ""
            lines.append(f"{number:4} {mark} {call.module}  {call.function}{thread}")
            before = call
        return "\n".join(lines)


def middle(ways: Sequence[Way]) -> Way:
    """The middle one by calls, then by changes."""
    return sorted(ways, key=lambda way: (len(way.calls), way.changes))[len(ways) // 2]


def trace(host: Host) -> Way:
    """Start a host and return the way of a request that it answers.

    Raises:
        LostTasksError: a task did not run.
    """
    with running(host.command) as port:
        for number in range(_WARM_UP):
            _request(port, host.tasks * (number + 1))
        done = host.tasks * _WARM_UP
        _noted(port)
        ways = []
        for number in range(_REQUESTS):
            _request(port, done + host.tasks * (number + 1))
            ways.append(Way(_noted(port)))
        return middle(ways)


def _request(port: int, finished: int) -> None:
    """Make a request, and wait until so many tasks have finished."""
    _get(port, "/task")
    deadline = time.monotonic() + PATIENCE
    while (ran := _get(port, FINISHED)) != finished:
        if time.monotonic() > deadline:
            raise LostTasksError(f"{ran} tasks ran of {finished}")


def _noted(port: int) -> list[Call]:
    """Take the calls that were noted, when there are no more to come."""
    calls: list[Call] = []
    while new := _get(port, CALLS):
        calls += (Call(*each) for each in new)
        time.sleep(_QUIET)  # nothing tells that the last function of all threads has returned
    return calls


def _get(port: int, path: str) -> Any:
    with urlopen(f"http://127.0.0.1:{port}{path}") as response:
        return json.load(response)


def main() -> None:
    """Print the table, and the calls if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.way", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--list", action="store_true", help="print the calls as well")
    given = parser.parse_args()
    ways = {host.name: trace(host) for host in HOSTS}
    print(f"{'host':54}{'calls':>6}{'changes of module':>19}{'modules':>9}")
    for name, way in ways.items():
        print(f"{name:54}{len(way.calls):6}{way.changes:19}{way.modules:9}")
    if given.list:
        for name, way in ways.items():
            print(f"\n{name}\n{way.listed()}")


if __name__ == "__main__":
    main()
