"""Where a file of tasks may be, and who may read it."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bgadapters.adapters import SettingsError, StoreUnavailableError
from bgadapters.stores.sqlite import SQLiteStore
from bgadapters.stores.sqlite.location import Location, location_of, network_file_system
from tests.stores.contract import row
from tests.stores.process import in_child


def store_at(path: Path | str, query: str = "") -> SQLiteStore:
    return SQLiteStore(f"sqlite:///{path}{query}")


def refusal(path: Path | str) -> str:
    with pytest.raises(SettingsError) as raised:
        store_at(path).open("owner")
    return str(raised.value)


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users may read, and not write."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def as_nobody(what: object) -> None:
    """Call something as a user who may read little and write less; a root may do it all."""

    def child() -> None:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        what()  # type: ignore[operator]

    in_child(child)


# URLs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/tasks.db", Location("/var/lib/tasks.db")),
        ("sqlite:////a%20b/c%3Fd%23e.db", Location("/a b/c?d#e.db")),
        ("sqlite:////t.db?synchronous=normal", Location("/t.db", "NORMAL")),
        (
            "sqlite:////t.db?synchronous=FULL&busy_timeout=0.5",
            Location("/t.db", "FULL", 0.5),
        ),
    ],
)
def test_a_url_names_a_file(url: str, expected: Location) -> None:
    assert location_of(url) == expected


def test_a_relative_path_is_of_where_the_process_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("sqlite:///tasks.db")
    monkeypatch.chdir("/")
    store.open("owner")
    store.close()
    assert (tmp_path / "tasks.db").exists()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("sqlite://tasks.db", "sqlite:///relative/path.db"),
        ("sqlite://host/tasks.db", "sqlite:///relative/path.db"),
        ("sqlite:///a.db#b", "%23"),
        ("sqlite:///a%00.db", "sqlite:///relative/path.db"),
        ("sqlite:///", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:", "names no file"),
        ("sqlite:///:memory:", "survives nothing"),
        ("sqlite:///file:x?mode=memory", "survives nothing"),
        ("sqlite:///a.db?mode=memory", "unknown option"),
        ("sqlite:///a.db?timeout=3", "unknown option"),
        ("sqlite:///a.db?synchronous=FULL&synchronous=NORMAL", "twice"),
        ("sqlite:///a.db?synchronous", "bad query field"),
        ("sqlite:///a.db?synchronous=OFF", "FULL or NORMAL"),
        ("sqlite:///a.db?busy_timeout=long", "seconds"),
        ("sqlite:///a.db?busy_timeout=0", "seconds"),
        ("sqlite:///a.db?busy_timeout=inf", "seconds"),
    ],
)
def test_what_else_a_url_says_is_refused(url: str, why: str) -> None:
    with pytest.raises(SettingsError) as raised:
        SQLiteStore(url)
    assert repr(url) in str(raised.value)
    assert why in str(raised.value)


# Places


def test_a_directory_has_to_be_there(tmp_path: Path) -> None:
    assert "make it" in refusal(tmp_path / "none" / "tasks.db")
    (tmp_path / "file").touch()
    assert "make it" in refusal(tmp_path / "file" / "tasks.db")


def test_a_directory_has_to_be_writable(public: Path) -> None:
    as_nobody(lambda: _says(refusal(public / "tasks.db"), "must be writable"))
    assert list(public.iterdir()) == []


def test_a_file_has_to_be_writable(public: Path) -> None:
    (public / "tasks.db").touch(0o644)
    os.chmod(public, 0o777)
    as_nobody(lambda: _says(refusal(public / "tasks.db"), "must be readable and writable"))


def _says(text: str, part: str) -> None:
    assert part in text


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    assert "is no file" in refusal(tmp_path)


def test_a_file_system_of_the_network_is_told(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/vda / ext4 rw 0 0\n"
        "tmpfs /run tmpfs rw 0 0\n"
        "server:/x /srv nfs4 rw 0 0\n"
        "/dev/vdb /srv/local xfs rw 0 0\n"
        "//server/y /mnt/my\\040share cifs rw 0 0\n"
        "host:/z /mnt/ssh fuse.sshfs rw 0 0\n"
        "/dev/vdc /twice ext4 rw 0 0\n"
        "server:/t /twice nfs rw 0 0\n"
        "server:/u /hidden nfs rw 0 0\n"
        "/dev/vdd /hidden ext4 rw 0 0\n"
    )

    def told(directory: str) -> str | None:
        return network_file_system(directory, mounts)

    assert told("/srv") == told("/srv/tasks") == "nfs4"
    assert told("/mnt/my share/a") == "cifs"
    assert told("/mnt/ssh") == "fuse.sshfs"
    assert told("/twice/a") == "nfs"
    local = "/", "/home", "/srvs", "/srv/local/a", "/run", "/mnt/my", "/hidden"
    assert [told(each) for each in local] == [None] * len(local)
    assert network_file_system("/srv", tmp_path / "none") is None


def test_there_is_a_word_for_a_file_system_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bgadapters.stores.sqlite.location.network_file_system", lambda directory: "nfs4"
    )
    text = refusal(tmp_path / "tasks.db")
    assert "network (nfs4)" in text
    assert "local disk" in text
    assert list(tmp_path.iterdir()) == []


# Files


def test_only_the_user_may_read_what_is_made(tmp_path: Path) -> None:
    """Whatever the process's mask; nothing is made public first, as the modes are given to it."""
    before = os.umask(0)
    try:
        store = store_at(tmp_path / "tasks.db")
        store.open("owner")
    finally:
        os.umask(before)
    store.write([row(1)], ())
    modes = {
        each.relative_to(tmp_path).as_posix(): stat.S_IMODE(each.stat().st_mode)
        for each in tmp_path.rglob("*")
    }
    assert modes == {
        "tasks.db": 0o600,
        "tasks.db-wal": 0o600,
        "tasks.db-shm": 0o600,
        "tasks.db-owners": 0o700,
        "tasks.db-owners/owner.lock": 0o600,
    }
    store.close()
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["tasks.db", "tasks.db-owners"]


def test_a_file_that_was_there_keeps_its_permissions(tmp_path: Path) -> None:
    path = tmp_path / "tasks.db"
    path.touch()
    path.chmod(0o640)
    store = store_at(path)
    store.open("owner")
    store.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_file_has_any_name(tmp_path: Path) -> None:
    name = "a b%?#&é.db"
    store = SQLiteStore(f"sqlite:///{tmp_path}/a%20b%25%3F%23&%C3%A9.db")
    store.open("owner")
    store.close()
    assert (tmp_path / name).is_file()


def test_two_names_of_a_file_mean_the_same_owners(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "tasks.db")
    first, second = store_at(tmp_path / "link.db"), store_at(tmp_path / "real" / "tasks.db")
    first.open("first")
    second.open("second")
    owners = {each.name for each in (tmp_path / "real" / "tasks.db-owners").iterdir()}
    first.close()
    second.close()
    assert owners == {"first.lock", "second.lock"}
    assert not (tmp_path / "link.db-owners").exists()


# What is in them


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    text, database, other = (tmp_path / name for name in ("text", "database", "other"))
    text.write_text("This is no database. " * 100)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("PRAGMA application_id = 7")
    before = {each: each.read_bytes() for each in (text, database, other)}
    assert "no database of SQLite" in refusal(text)
    assert "another program" in refusal(database)
    assert "another program" in refusal(other)
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("version", "age"), [(99, "newer"), (1, "older")])
def test_a_file_of_another_version_is_refused(tmp_path: Path, version: int, age: str) -> None:
    path = tmp_path / "tasks.db"
    store = store_at(path)
    store.open("owner")
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    assert f"{age} version" in refusal(path)
    with pytest.raises(SettingsError, match=f"{age} version"):
        store_at(path).count()


def test_who_looks_makes_no_file(tmp_path: Path) -> None:
    store = store_at(tmp_path / "tasks.db")
    for look in (store.count, store.find, lambda: store.get("a"), lambda: store.retry(["a"])):
        with pytest.raises(StoreUnavailableError, match="it is not there"):
            look()
    with pytest.raises(StoreUnavailableError, match="it is not there"):
        store_at(tmp_path / "none" / "tasks.db").count()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "tasks.db").touch()
    with pytest.raises(StoreUnavailableError, match="no server has opened it yet"):
        store.count()


def test_a_store_that_is_not_open_keeps_nothing(tmp_path: Path) -> None:
    store = store_at(tmp_path / "tasks.db")
    store.open("owner")
    store.close()
    store.close()  # which is no mistake
    for use in (
        lambda: store.write([row(1)], ()),
        lambda: store.begin("a"),
        lambda: store.take_over(1),
    ):
        with pytest.raises(StoreUnavailableError, match="not open"):
            use()
    assert store.count() == {"waiting": 0, "failed": 0}
