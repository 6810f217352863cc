"""Who lives, as the operating system's locks tell it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bgadapters.adapters import StoreUnavailableError
from bgadapters.stores.sqlite import SQLiteStore
from bgadapters.stores.sqlite.owners import Owners
from tests.stores.contract import ids, row
from tests.stores.processes import Other, Place, until


def names(directory: Path) -> set[str]:
    return {each.name for each in directory.iterdir()}


def is_locked(path: Path) -> bool:
    """Whether another process finds it locked."""
    script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), 6)"  # exclusive, at once
    done = subprocess.run([sys.executable, "-c", script, str(path)], stderr=-1, check=False)
    return b"BlockingIOError" in done.stderr


def waits() -> bool:
    """Whether this process waits for a lock."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f" {os.getpid()} " in line for line in lines)


def test_an_owner_lives_from_its_begin_to_its_end(tmp_path: Path) -> None:
    mine, other = Owners(str(tmp_path / "owners")), Owners(str(tmp_path / "owners"))
    assert not other.lives("mine")
    mine.begin("mine")
    assert other.lives("mine")
    assert mine.lives("mine")
    mine.end()
    assert not other.lives("mine")
    mine.end()  # which is no mistake
    assert names(tmp_path / "owners") == set()


def test_files_of_the_dead_are_swept(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path}/tasks.db")
    dead, living = Other(place), Other(place)
    try:
        dead.open("dead")
        living.open("living")
        dead.kill()
        directory = tmp_path / "tasks.db-owners"
        (directory / "README").touch()  # not ours
        assert names(directory) == {"dead.lock", "living.lock", "README"}
        here = place.store()
        here.open("here")
        assert names(directory) == {"here.lock", "living.lock", "README"}
        here.close()
    finally:
        dead.dispose()
        living.dispose()


@pytest.mark.skipif(not os.path.exists("/proc/locks"), reason="nothing tells who waits for a lock")
def test_an_owner_whose_file_was_taken_for_a_dead_ones_makes_another(tmp_path: Path) -> None:
    """Another process looks at it after it was made, and before it is locked."""
    directory = tmp_path / "owners"
    directory.mkdir()
    path = directory / "mine.lock"
    path.touch()
    looker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, sys; f = os.open(sys.argv[1], os.O_RDWR);"
            "fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input(); os.unlink(sys.argv[1])",
            str(path),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert looker.stdin is not None
    assert looker.stdout is not None
    with looker:
        looker.stdout.readline()
        mine = Owners(str(directory))
        thread = threading.Thread(target=mine.begin, args=["mine"])
        thread.start()
        until(waits)
        looker.stdin.write("\n")
        looker.stdin.close()
        thread.join(10)
    assert not thread.is_alive()
    assert is_locked(path)
    mine.end()


def test_names_of_owners_are_no_paths(tmp_path: Path) -> None:
    """They come out of a file."""
    victim = tmp_path / "victim.lock"
    victim.touch()
    owners = Owners(str(tmp_path / "owners"))
    assert not owners.lives("../victim")
    assert victim.exists()
    for name in ("../x", "..", ".", "a/b", "%2F", "é"):
        each = Owners(str(tmp_path / "owners"))
        each.begin(name)
        assert Owners(str(tmp_path / "owners")).lives(name)
        each.end()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.touch()
    directory = tmp_path / "owners"
    directory.mkdir()
    (directory / "mine.lock").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        Owners(str(directory)).begin("mine")
    assert victim.exists()


def test_a_lock_that_cannot_be_had_is_told(tmp_path: Path) -> None:
    (tmp_path / "tasks.db-owners").touch()
    store = SQLiteStore(f"sqlite:///{tmp_path}/tasks.db")
    with pytest.raises(StoreUnavailableError, match="owners"):
        store.open("owner")
    (tmp_path / "tasks.db-owners").unlink()
    store.open("owner")
    store.close()


def test_a_process_that_becomes_another_program_is_dead(tmp_path: Path) -> None:
    """Its memory is gone, and what it would have run."""
    script = """
import os, sys
from bgadapters.stores import Row
from bgadapters.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
store.open("first")
store.write([Row("a", "q", 0, 1.0, "{}", "a")], ())
os.execv("/bin/cat", ["cat"])
"""
    url = f"sqlite:///{tmp_path}/tasks.db"
    place = Place(url)
    with subprocess.Popen(
        [sys.executable, "-c", script, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("it is cat\n")
        process.stdin.flush()
        assert process.stdout.readline() == "it is cat\n"
        store = place.store()
        store.open("here")
        assert ids(store.take_over(1)) == ["a"]
        store.close()
        process.stdin.close()


def test_a_program_that_is_started_keeps_no_owner_alive(tmp_path: Path) -> None:
    place = Place(f"sqlite:///{tmp_path}/tasks.db")
    starter = f"""
import os, subprocess, sys
from bgadapters.stores import Row
from bgadapters.stores.sqlite import SQLiteStore
store = SQLiteStore({place.setting!r})
store.open("first")
store.write([Row("a", "q", 0, 1.0, "{{}}", "a")], ())
cat = subprocess.Popen(["cat"], close_fds=False, stdout=subprocess.DEVNULL)
print(cat.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    with subprocess.Popen(
        [sys.executable, "-c", starter],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        cat = int(process.stdout.readline())
        process.wait()
        os.kill(cat, 0)  # it lives
        store = place.store()
        store.open("here")
        assert ids(store.take_over(1)) == ["a"]
        store.close()
        process.stdin.close()  # and now it ends


def test_one_process_cannot_lose_its_lock_by_looking(tmp_path: Path) -> None:
    """It would, if it opened its own owners' files and closed them again."""
    place = Place(f"sqlite:///{tmp_path}/tasks.db")
    first, second = place.store(), place.store()
    first.open("first")
    second.open("second")  # which sweeps
    first.write([row(1)], ())
    second.take_over(1)
    second.discard([row(1).id])
    place.store().discard([row(1).id])
    assert is_locked(tmp_path / "tasks.db-owners" / "first.lock")
    first.close()
    second.close()
