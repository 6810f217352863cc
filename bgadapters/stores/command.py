"""``python -m bgadapters tasks``: look at stored tasks and act on them.

`add_actions` and `act` are for other command lines that know their store by themselves.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from datetime import datetime, timedelta
from typing import Any, TextIO, get_args

from bgadapters.adapters import (
    SettingsError,
    State,
    StoredTask,
    StoredTasks,
    StoreUnavailableError,
    escaped,
    runtimes,
)
from bgadapters.target import TargetError, load

EXIT_CODES = (
    "Exit code: 0 if it was done, 1 if a task that was named is not there or is not in the state "
    "for it, or if the store cannot be used; 2 for wrong usage."
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_PAGE = 1000


def add_to(commands: Any) -> None:
    """Add the command to a command line.

    Args:
        commands: what `argparse.ArgumentParser.add_subparsers` has returned.
    """
    tasks = commands.add_parser(
        "tasks",
        help="look at durable tasks and act on them",
        description="Look at durable tasks, and act on them, beside servers that run them.",
        epilog=EXIT_CODES,
    )
    tasks.set_defaults(run=_run, parser=tasks)
    where = tasks.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--store",
        metavar="URL",
        help="where they are, as the setting 'store' says it: sqlite:///tasks.db",
    )
    where.add_argument(
        "--app",
        metavar="MODULE:APPLICATION",
        help="the application whose tasks they are: it is imported, and its setting 'store' counts",
    )
    add_actions(tasks)


def add_actions(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add what can be done to a parser; `act` does it.

    Args:
        parser: the parser.
        required: whether one of them has to be named.
    """
    actions = parser.add_subparsers(dest="action", title="actions", required=required)

    def add(name: str, what: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=what, epilog=EXIT_CODES)
        action.add_argument("--json", action="store_true", help="print JSON")
        return action

    add("count", "say how many there are in each state")
    listed = add("list", "list tasks, the oldest first")
    listed.add_argument("--state", choices=get_args(State), help="only those in this state")
    listed.add_argument("--limit", type=int, default=100, help="how many at most (default: 100)")
    listed.add_argument("--offset", type=int, default=0, help="how many to leave out before them")
    shown = add("show", "show all of one task")
    shown.add_argument("id")
    for each in (listed, shown):
        each.add_argument(
            "--arguments", action="store_true", help="print arguments, which may be secrets"
        )
    retried = add("retry", "have failed tasks run again")
    discarded = add("discard", "delete failed tasks, and those that no living process has")
    for each in (retried, discarded):
        each.add_argument("ids", nargs="*", metavar="id")
        each.add_argument("--all-failed", action="store_true", help="all that have failed")
    purged = add("purge", "delete tasks that failed long ago")
    purged.add_argument(
        "--older-than",
        required=True,
        type=_duration,
        metavar="TIME",
        help="how long ago: a number and s, m, h, d or w, such as 30d",
    )


def act(tasks: StoredTasks, given: argparse.Namespace, out: TextIO | None = None) -> int:
    """Do what a parser with `add_actions` was told; return the exit code.

    Args:
        tasks: on which.
        given: what the parser has returned.
        out: where to print. Default: the standard output.

    Raises:
        ValueError: what was given makes no sense.
        StoreUnavailableError: the store is not there or fails.
    """
    return _ACTIONS[given.action](tasks, given, out or sys.stdout)


def _run(given: argparse.Namespace) -> int:
    parser: argparse.ArgumentParser = given.parser
    try:
        store = _store_of(given.app) if given.store is None else given.store
        return act(StoredTasks(store), given)
    except (TargetError, SettingsError, ValueError) as exc:
        parser.error(str(exc))
    except StoreUnavailableError as exc:
        print(f"{parser.prog}: {exc}", file=sys.stderr)  # noqa: T201
        return 1


def _store_of(target: str) -> Any:
    """Import an application; return its setting ``store``.

    Raises:
        TargetError: it is not there, has no store, or is one of several with stores.
    """
    with redirect_stdout(sys.stderr):  # what the application prints is no answer
        application = load(target)
    given = [runtime.settings.store for runtime in runtimes()]
    # Starlette makes its middlewares when it starts.
    given += [each.kwargs.get("store") for each in getattr(application, "user_middleware", ())]
    stores: list[Any] = []
    stores += (each for each in given if each is not None and each not in stores)
    if len(stores) == 1:
        return stores[0]
    what = f"{len(stores)} of them are set" if stores else "it has none"
    raise TargetError(
        f"{target}: the setting 'store' says where tasks are, and {what}. Name one with --store"
    )


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d+)([smhdw])", text, re.ASCII)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number and s, m, h, d or w, as in 30d")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _count(tasks: StoredTasks, given: argparse.Namespace, out: TextIO) -> int:
    found = tasks.count()
    _print(out, given, found, (f"{state}: {number}" for state, number in found.items()))
    return 0


def _list(tasks: StoredTasks, given: argparse.Namespace, out: TextIO) -> int:
    found = tasks.list(given.state, given.limit, given.offset, arguments=given.arguments)
    _print(out, given, [_plain(each) for each in found], (_line(each) for each in found))
    return 0


def _show(tasks: StoredTasks, given: argparse.Namespace, out: TextIO) -> int:
    found = tasks.show(given.id, arguments=given.arguments)
    if found is None:
        print(f"there is no task {given.id}: it has ended well, or was deleted", file=sys.stderr)  # noqa: T201
        return 1
    _print(out, given, _plain(found), _lines(found))
    return 0


def _retry(tasks: StoredTasks, given: argparse.Namespace, out: TextIO) -> int:
    return _on_each(tasks, given, out, tasks.retry, "retried")


def _discard(tasks: StoredTasks, given: argparse.Namespace, out: TextIO) -> int:
    return _on_each(tasks, given, out, tasks.discard, "discarded")


def _on_each(
    tasks: StoredTasks,
    given: argparse.Namespace,
    out: TextIO,
    do: Callable[[Sequence[str]], int],
    done: str,
) -> int:
    if bool(given.ids) is given.all_failed:
        raise ValueError(f"{given.action} wants ids of tasks, or --all-failed")
    named = list(dict.fromkeys(given.ids))
    ids = named or _failed(tasks)
    number = do(ids)
    _print(out, given, {done: number, "asked": len(ids)}, [f"{done}: {number} of {len(ids)}"])
    return int(number < len(named))


def _failed(tasks: StoredTasks) -> list[str]:
    """All at first: what is retried may fail again meanwhile."""
    found: list[str] = []
    while page := tasks.list("failed", _PAGE, len(found)):
        found += (each.id for each in page)
    return found


def _purge(tasks: StoredTasks, given: argparse.Namespace, out: TextIO) -> int:
    number = tasks.purge(given.older_than)
    _print(out, given, {"purged": number}, [f"purged: {number}"])
    return 0


_ACTIONS: dict[str, Callable[[StoredTasks, argparse.Namespace, TextIO], int]] = {
    "count": _count,
    "list": _list,
    "show": _show,
    "retry": _retry,
    "discard": _discard,
    "purge": _purge,
}


def _print(out: TextIO, given: argparse.Namespace, data: Any, lines: Any) -> None:
    for line in [json.dumps(data, indent=2)] if given.json else lines:
        print(line, file=out)


def _plain(task: StoredTask) -> dict[str, Any]:
    """What JSON can write: times as ISO 8601, arguments only where they were asked for."""
    said = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in task._asdict().items()
    }
    if task.arguments is None:
        del said["arguments"]
    return said


def _line(task: StoredTask) -> str:
    why = task.error or task.reason
    parts = [
        task.id,
        f"{task.state:<7}",
        f"{task.added:%Y-%m-%d %H:%M:%S}",
        f"{task.attempts} attempt(s)",
        task.name,
        *(() if why is None else [f"- {why}"]),
        *(() if task.arguments is None else [json.dumps(task.arguments)]),
    ]
    return escaped("  ".join(parts))


def _lines(task: StoredTask) -> list[str]:
    said = {name: value for name, value in _plain(task).items() if value is not None}
    traceback = said.pop("traceback", "")
    if task.arguments is not None:
        said["arguments"] = json.dumps(task.arguments)
    lines = [escaped(f"{name}: {value}") for name, value in said.items()]
    return [*lines, *(escaped(f"  {line}") for line in traceback.splitlines())]
