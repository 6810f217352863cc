"""A process with a store of its own, which does what it is told on its standard input.

Each line is JSON: the name of a method and its arguments. Each answer is a line of JSON: what it
returned, or the name and the text of what it raised.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from typing import Any

from bgadapters.core.outbox.urls import store_of
from bgadapters.stores import Change, Row, Store


def main(setting: str, prepare: str) -> None:
    if prepare:
        module, _, function = prepare.partition(":")
        getattr(import_module(module), function)()
    store = store_of(setting)
    for line in sys.stdin:
        name, args = json.loads(line)
        answer: tuple[str, Any]
        try:
            answer = "", _call(store, name, args)
        except Exception as exc:
            answer = type(exc).__name__, str(exc)
        print(json.dumps(answer), flush=True)


def _call(store: Store, name: str, args: list[Any]) -> Any:
    if name == "fork":
        return _fork(store)
    if name == "write":
        rows, changes = args
        args = [[Row(*row) for row in rows], [Change(*change) for change in changes]]
    return getattr(store, name)(*args)


def _fork(store: Store) -> int:
    """Leave a child behind that has inherited the store, and waits to be killed."""
    child = os.fork()
    if not child:
        store.forget_connections()
        signal.alarm(60)  # should the test not come to kill it
        signal.pause()
    return child


def in_child(what: Callable[[], object]) -> None:
    """Do something in a forked child, which has to succeed."""
    child = os.fork()
    if not child:
        try:
            what()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, "see what the child has printed"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
