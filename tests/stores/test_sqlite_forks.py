"""Forks: what SQLite notes of locks in a process is not true in a child of it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bgadapters.adapters import StoreUnavailableError
from bgadapters.stores.sqlite import SQLiteStore
from bgadapters.stores.sqlite.database import Database
from bgadapters.stores.sqlite.location import location_of
from tests.core.ways import lines_of
from tests.stores.contract import ids, numbers, row
from tests.stores.process import in_child
from tests.stores.processes import Place, until


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(f"sqlite:///{tmp_path}/tasks.db")


@pytest.fixture
def store(place: Place) -> Iterator[SQLiteStore]:
    store = SQLiteStore(place.setting)
    store.open("parent")
    yield store
    store.close()


@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"])
def test_a_child_has_locks_of_its_own(place: Place, fork: str) -> None:
    """Without them another process removes the log (WAL) that the child writes to, as it closes.

    The parent has ended by then: its locks do not help.
    """
    script = f"""
    import ctypes, os, subprocess, sys, textwrap
    from bgadapters.stores import Row
    from bgadapters.stores.sqlite import SQLiteStore

    url = sys.argv[1]
    inherited = SQLiteStore(url)
    inherited.open("parent")
    lives, end = os.pipe()
    if {fork}:
        os._exit(0)
    os.close(end)
    os.read(lives, 1)
    inherited.forget_connections()
    store = SQLiteStore(url)
    store.open("child")
    count = '''
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1])
    print(*connection.execute("SELECT count(*) FROM tasks").fetchone(), flush=True)
    connection.close()
    '''
    for name in "ab":
        store.write([Row(name, "q", 0, 1.0, "{{}}", "task")], ())
        path = url.removeprefix("sqlite:///")
        subprocess.run([sys.executable, "-c", textwrap.dedent(count), path], check=True)
    """
    assert lines_of(script, place.setting) == ["1", "2"]


def test_a_fork_waits_until_a_write_has_ended(store: SQLiteStore, place: Place) -> None:
    """A connection that was in use can be neither used nor closed in the child."""
    path = place.setting.removeprefix("sqlite:///")
    locker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with closing(locker):
        locker.execute("BEGIN IMMEDIATE")
        thread = threading.Thread(target=store.write, args=([row(1)], ()))
        thread.start()
        until(lambda: store._database._connections._uses == 1)
        threading.Timer(0.2, lambda: locker.execute("ROLLBACK")).start()

        def child() -> None:
            store.forget_connections()
            own = place.store()
            own.open("child")
            own.write([row(2, "b")], ())
            own.close()

        in_child(child)
        thread.join()
    assert numbers(store.find()) == [1, 2]


def test_a_fork_in_the_middle_of_a_use_is_told_of(place: Place, store: SQLiteStore) -> None:
    """As when a signal handler forks: then nobody can wait."""
    database = Database(location_of(place.setting))

    def child() -> None:
        store.forget_connections()
        own = place.store()
        with pytest.raises(StoreUnavailableError, match="forked while"):
            own.open("child")
        with pytest.raises(StoreUnavailableError, match="forked while"):
            own.count()

    with database.using():
        in_child(child)
    store.write([row(1)], ())
    assert ids(store.find()) == [row(1).id]


def test_a_child_that_python_knows_nothing_of_forgets_too(place: Place) -> None:
    """As uWSGI's are."""
    script = f"""
    import ctypes, os
    from bgadapters.stores import Row
    from bgadapters.stores.sqlite import SQLiteStore

    def row(number):
        return Row(str(number), "q", number, 1.0, "{{}}", "task")

    def child():
        parent.forget_connections()
        own = SQLiteStore({place.setting!r})
        own.open("child")
        assert own.take_over(10) == []
        own.write([row(2)], ())
        own.close()

    parent = SQLiteStore({place.setting!r})
    parent.open("its parent")
    parent.write([row(1)], ())
    if not (child_id := ctypes.PyDLL(None).fork()):
        try:
            child()
        except BaseException as exc:
            print(exc, flush=True)
            os._exit(1)
        os._exit(0)
    print(os.waitpid(child_id, 0)[1], [each.id for each in parent.find()], parent.begin("1"))
    """
    assert lines_of(script) == ["0 ['1', '2'] True"]


def test_what_was_inherited_is_not_open(store: SQLiteStore) -> None:
    def child() -> None:
        store.forget_connections()
        with pytest.raises(StoreUnavailableError, match="not open"):
            store.write([row(1)], ())

    in_child(child)
