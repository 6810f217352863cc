"""When tasks are on the disk, what goes wrong there, and how large a file gets."""

from __future__ import annotations

import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import pytest

from bgadapters.adapters import StoreUnavailableError
from bgadapters.stores import Change, Row
from bgadapters.stores.sqlite import SQLiteStore
from bgadapters.stores.sqlite.database import Database
from bgadapters.stores.sqlite.errors import Told
from bgadapters.stores.sqlite.location import location_of
from tests.stores.contract import numbers, row
from tests.stores.process import in_child
from tests.stores.processes import Other, Place, until

Opened = Callable[..., SQLiteStore]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


@pytest.fixture
def opened(path: Path) -> Iterator[Callable[..., SQLiteStore]]:
    made: list[SQLiteStore] = []

    def make(owner: str = "here", query: str = "") -> SQLiteStore:
        store = SQLiteStore(f"sqlite:///{path}{query}")
        store.open(owner)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


# What is on the disk


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace counts the calls of the system")
@pytest.mark.parametrize(
    ("synchronous", "expected"), [("FULL", [1, 0, 0, 1]), ("NORMAL", [0, 0, 0, 0])]
)
def test_a_write_waits_for_the_disk_once(
    path: Path, tmp_path: Path, synchronous: str, expected: list[int]
) -> None:
    """However many responses it is for; and what only changes does not."""
    script = """
import os, sys
from bgadapters.stores import Change, Row
from bgadapters.stores.sqlite import SQLiteStore

def rows(first, last):
    return [Row(f"{n}", f"q{n}", 0, 1.0, "{}", "task") for n in range(first, last)]

store = SQLiteStore(sys.argv[1])
store.open("here")
store.write(rows(0, 10), ())  # which tells the disk of the log itself
steps = [
    lambda: store.write(rows(10, 60), ()),
    lambda: store.write((), [Change(str(n), "delete") for n in range(30)]),
    lambda: [store.begin("40"), store.take_over(10), store.count(), store.retry(["1"])],
    lambda: store.write(rows(60, 70), [Change("40", "delete")]),
]
for number, step in enumerate(steps):
    os.path.exists(f"/step{number}")
    step()
os.path.exists("/end")
"""
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,sync_file_range,?stat,?newfstatat,?statx"
    command = ["strace", "-f", "-o", str(trace), "-e", calls, sys.executable, "-c", script]
    done = subprocess.run(
        [*command, f"sqlite:///{path}?synchronous={synchronous}"],
        check=False,
        capture_output=True,
        text=True,
    )
    if "ptrace" in done.stderr or "Operation not permitted" in done.stderr:
        pytest.skip("strace may not look at processes here")
    assert (done.returncode, done.stderr) == (0, "")
    counts: list[int] = []
    for line in trace.read_text().splitlines():
        if '"/step' in line:
            counts.append(0)
        elif '"/end"' in line:
            break
        elif counts and "sync" in line:
            counts[-1] += 1
    assert counts == expected


def test_what_is_written_is_in_the_files(path: Path, tmp_path: Path, opened: Opened) -> None:
    """As a loss of power would leave them: nothing is kept back in memory."""
    store = opened()
    store.write([row(n) for n in range(50)], ())
    copy = tmp_path / "copy"
    copy.mkdir()
    for each in (path, path.with_name("tasks.db-wal")):
        shutil.copy(each, copy)  # not the -shm: it is of this boot
    with closing(sqlite3.connect(copy / "tasks.db")) as connection:
        assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (50,)


def test_the_log_is_moved_into_the_file_now_and_then(path: Path, opened: Opened) -> None:
    """Not by SQLite itself, which may do so while others write."""
    store, long = opened(), "x" * 1000

    def in_file() -> int:
        with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                return 0
            return int(connection.execute("SELECT count(*) FROM tasks").fetchone()[0])

    store.write([row(n, payload=long) for n in range(2500)], ())
    assert in_file() == 0  # as a response waits
    store.write((), [Change(row(n).id, "delete") for n in range(10)])
    assert in_file() == 2490
    store.write([row(n, payload=long) for n in range(4000, 8500)], ())
    assert in_file() == 6990  # as it would be too much


def test_what_was_written_counts_though_the_log_cannot_be_moved(path: Path, opened: Opened) -> None:
    store, long = opened(), "x" * 1000
    store.write([row(n, payload=long) for n in range(2500)], ())
    path.rename(path.with_name("away"))
    store.write((), [Change(row(n).id, "delete") for n in range(10)])
    path.with_name("away").rename(path)
    assert store.count()["waiting"] == 2490


# What goes wrong


def test_a_store_that_is_locked_for_too_long(path: Path, opened: Opened) -> None:
    store = opened(query="?busy_timeout=0.05")
    with closing(sqlite3.connect(path, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match=r"busy_timeout=0\.05 seconds"):
            store.write([row(1)], ())
        assert store.count() == {"waiting": 0, "failed": 0}  # who reads does not wait
        locker.execute("ROLLBACK")
        store.write([row(2)], ())
    assert numbers(store.find()) == [2]


def test_who_waits_looks_often(path: Path, opened: Opened) -> None:
    """SQLite looks less and less often: others that write all the time would be first each time."""
    store = opened()
    connection = store._database._connections.kept
    assert connection is not None
    tries: list[str] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        connection.set_trace_callback(tries.append)
        thread = threading.Thread(target=store.write, args=([row(1)], ()))
        thread.start()
        until(lambda: len(tries) > 100)
        locker.execute("ROLLBACK")
        thread.join()
    assert numbers(store.find()) == [1]


def test_a_store_that_is_locked_while_it_is_opened(path: Path, opened: Opened) -> None:
    opened()
    other = SQLiteStore(f"sqlite:///{path}?busy_timeout=0.05")
    with closing(sqlite3.connect(path, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            other.open("other")
        locker.execute("ROLLBACK")
    other.open("other")
    other.close()


def test_a_new_file_that_is_locked_is_waited_for(path: Path) -> None:
    """SQLite itself would not wait before it writes to a log for the first time."""
    path.touch()
    short, long = (SQLiteStore(f"sqlite:///{path}?busy_timeout={n}") for n in (0.05, 10))
    locker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    with closing(locker):
        for mode in ("EXCLUSIVE", "IMMEDIATE"):
            locker.execute(f"BEGIN {mode}")
            with pytest.raises(StoreUnavailableError, match="locked"):
                short.open("here")
            locker.execute("ROLLBACK")
        locker.execute("BEGIN IMMEDIATE")
        timer = threading.Timer(0.2, locker.execute, ["ROLLBACK"])
        timer.start()
        long.open("here")
        timer.join()
        long.close()


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode != 0
    if shutil.which("unshare")
    else True,
    reason="only root may mount a disk",
)
def test_a_disk_that_is_full(tmp_path: Path) -> None:
    script = """
    import os, sys
    from bgadapters.adapters import StoreUnavailableError
    from bgadapters.stores import Change, Row
    from bgadapters.stores.sqlite import SQLiteStore

    store = SQLiteStore(sys.argv[1])
    store.open("here")
    kept = 0
    try:
        while True:
            store.write([Row(str(kept), "q", kept, 1.0, "x" * 9000, "task")], ())
            kept += 1
    except StoreUnavailableError as exc:
        print("make room" in str(exc), flush=True)
    print(kept > 5, store.count()["waiting"] == kept)
    os.unlink(sys.argv[2])
    store.write([Row("new", "q", 0, 1.0, "x", "task")], [])
    print(store.count()["waiting"] == kept + 1)
    store.close()
    """
    run = 'mount -t tmpfs -o size=2000k none "$1" && head -c 1500000 /dev/zero >"$1/big" && shift'
    done = subprocess.run(
        [
            *("unshare", "-m", "sh", "-c", run + ' && exec "$@"', "sh", str(tmp_path)),
            *(sys.executable, "-c", textwrap.dedent(script)),
            *(f"sqlite:///{tmp_path}/tasks.db?busy_timeout=0.1", f"{tmp_path}/big"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["True"] * 4


def test_a_disk_that_fails(path: Path) -> None:
    """Here it refuses to make a file larger."""

    def child() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        store = SQLiteStore(f"sqlite:///{path}")
        store.open("here")
        store.write([row(1)], ())
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with pytest.raises(StoreUnavailableError, match="the disk, or its file system"):
            store.write([row(n) for n in range(2, 2000)], ())
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        store.write([row(2)], ())
        assert numbers(store.find()) == [1, 2]
        store.close()

    in_child(child)


def test_a_file_that_is_damaged(path: Path, opened: Opened) -> None:
    store = opened()
    store.write([row(n, payload="x" * 3000) for n in range(100)], ())
    store.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(StoreUnavailableError, match=r"damaged.*\.recover"):
        SQLiteStore(f"sqlite:///{path}").find()


def test_a_file_that_is_replaced_while_it_is_open(path: Path, opened: Opened) -> None:
    store = opened()
    path.rename(path.with_name("away"))
    with pytest.raises(StoreUnavailableError, match="move it back"):
        store.write([row(1)], ())
    path.touch()
    with pytest.raises(StoreUnavailableError, match="another file"):
        store.write([row(1)], ())
    path.unlink()
    path.with_name("away").rename(path)
    store.write([row(1)], ())


def test_each_error_has_its_advice(path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("PRAGMA max_page_count = 3")
        with pytest.raises(StoreUnavailableError, match="make room"), Told("p", 1):
            connection.execute("INSERT INTO t VALUES (zeroblob(100000))")
        connection.execute("PRAGMA query_only = ON")
        with pytest.raises(StoreUnavailableError, match="able to write"), Told("p", 1):
            connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(StoreUnavailableError, match=r"no such table: none$"), Told("p", 1):
            connection.execute("SELECT * FROM none")
    with pytest.raises(ZeroDivisionError), Told("p", 1):
        print(1 / 0)


# How it grows


@pytest.mark.slow
def test_a_file_that_is_used_for_long_does_not_grow(path: Path, opened: Opened) -> None:
    """What has ended makes room for what comes, also in the log."""
    store = opened(query="?synchronous=NORMAL")

    def use(first: int) -> int:
        for n in range(first, first + 5000, 10):
            rows = [row(k, f"q{n}", payload="x" * 500) for k in range(n, n + 10)]
            store.write(rows, [Change(row(k).id, "delete") for k in range(n - 500, n - 490)])
        return sum(each.stat().st_size for each in path.parent.iterdir() if each.is_file())

    use(0)
    use(5000)
    before = use(10_000)
    assert use(15_000) <= before * 1.1
    assert store.count()["waiting"] == 500
    assert before < 10_000_000


def test_nothing_is_looked_for_in_the_whole_file(path: Path, opened: Opened) -> None:
    """So nothing that a response or a server waits for gets slower when many tasks wait."""
    store, other = opened(), opened("other")
    other.write([row(1, "a"), row(2, "a", key="k")], ())
    other.close()
    dead = Other(Place(f"sqlite:///{path}"))
    dead.open("dead")
    dead.write([row(5, "c")])
    dead.kill()
    dead.dispose()
    seen: set[str] = set()
    connection = store._database._connections.kept
    assert connection is not None
    connection.set_trace_callback(seen.add)
    assert numbers(store.take_over(10)) == [1, 2, 5]
    store.write(
        [row(3, "b", key="k"), row(4, "b")],
        [
            Change(row(3).id, "claim"),
            Change(row(2).id, "claim", keeps=True),
            Change(row(1).id, "again", 2, 1.0),
            Change(row(1).id, "free"),
            Change(row(3).id, "delete"),
            Change(row(4).id, "fail", failure="{}"),
        ],
    )
    store.begin(row(2).id)
    store.get(row(2).id)
    store.get(row(1).id)
    store.write((), [Change(row(2).id, "delete")])
    store.find("failed")
    store.retry([row(4).id])
    store.discard([row(4).id])
    store.purge(0.0)
    connection.set_trace_callback(None)
    plans = {
        sql: [step[3] for step in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
        for sql in seen
        if sql.split()[0] in ("SELECT", "UPDATE", "DELETE")
    }
    assert len(plans) > 12
    slow = {
        sql: plan
        for sql, plan in plans.items()
        if any("TEMP B-TREE" in step or step == "SCAN tasks" for step in plan)
    }
    assert slow == {}


# Many processes


def test_processes_that_open_a_new_file_at_once(path: Path) -> None:
    place = Place(f"sqlite:///{path}")
    others = [Other(place) for _ in range(6)]
    try:
        for n, each in enumerate(others):
            each.ask("open", f"owner{n}")
        for n, each in enumerate(others):
            each.answer()
            each.ask("write", [row(n, f"q{n}")], [])
        for each in others:
            each.answer()
        assert sorted(numbers(place.store().find())) == list(range(6))
    finally:
        for each in others:
            each.dispose()


@pytest.mark.parametrize("statement", range(3))
def test_a_file_that_another_process_makes_meanwhile_is_ours(path: Path, statement: int) -> None:
    """It makes tables and the file's id in one transaction: between any two looks at them."""
    place = location_of(f"sqlite:///{path}")
    looks = 0

    class Looks:
        def execute(self, sql: str) -> SimpleNamespace:
            nonlocal looks
            found = connection.execute(sql).fetchone()
            if looks == statement:
                Database(place).connect()
            looks += 1
            return SimpleNamespace(fetchone=lambda: found)

    with closing(sqlite3.connect(path)) as connection:
        path.chmod(0o600)
        opened: Any = Looks()
        assert Database(place)._is_ours(opened) == (statement == 0)
    assert looks == 3


@pytest.mark.slow
def test_many_tasks_that_were_left_behind(path: Path, opened: Opened) -> None:
    """Four processes take them, each once, while a fifth goes on writing as fast as before."""
    total = 100_000
    store = opened(query="?synchronous=NORMAL")
    empty = median(_seconds(store, n) for n in range(200))
    place = Place(f"sqlite:///{path}")
    dead = SQLiteStore(place.setting)
    dead.open("dead")
    for first in range(0, total, 10_000):
        dead.write([row(n, f"q{n // 5}") for n in range(first, first + 10_000)], ())
    full = median(_seconds(store, n) for n in range(200, 400))
    dead.close()
    assert full < 3 * empty
    others = [Other(place) for _ in range(4)]
    try:
        for n, each in enumerate(others):
            each.open(f"owner{n}")
        taken: list[int] = []
        lock = threading.Lock()

        def take(each: Other) -> None:
            while rows := each.take_over(1000):
                with lock:
                    taken.extend(numbers(rows))

        threads = [threading.Thread(target=take, args=[each]) for each in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for each in others:
            each.dispose()
    assert len(taken) == total
    assert set(taken) == set(range(total))


def _seconds(store: SQLiteStore, number: int) -> float:
    tasks = [Row(f"t{number}", f"t{number}", 0, time.time(), "{}", "task")]
    began = time.perf_counter()
    store.write(tasks, [Change(f"t{number - 1}", "delete")])
    return time.perf_counter() - began
