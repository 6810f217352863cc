"""Where the file is, as the setting ``store`` says, and whether it can be there."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

from bgadapters.adapters import SettingsError

Synchronous = Literal["FULL", "NORMAL"]

_FORM = (
    "a store in SQLite is named as sqlite:///relative/path.db or sqlite:////absolute/path.db, with "
    "?synchronous=FULL or NORMAL and &busy_timeout=seconds if wanted, and with %3F for '?', %23 "
    "for '#' and %25 for '%' in the path"
)
_NETWORK = re.compile(
    r"nfs\d*|cifs|smb\w*|9p|afs|ceph|glusterfs|lustre|beegfs|gpfs|ocfs2|gfs2|ncpfs|coda|davfs"
    r"|fuse\.(sshfs|glusterfs\w*|ceph\S*|s3fs|rclone|gcsfuse|goofys|davfs\d*|smbnetfs|mfs|juicefs)"
)


class Location(NamedTuple):
    """Where the file is, and how it is used.

    Attributes:
        path: the file, absolute. Links are not followed yet.
        synchronous: ``"FULL"``: what is written survives a loss of power; ``"NORMAL"``: perhaps
            not.
        busy_timeout: the seconds for which others may lock it.
    """

    path: str
    synchronous: Synchronous = "FULL"
    busy_timeout: float = 10.0


def location_of(url: str) -> Location:
    """Return what a URL says.

    Raises:
        SettingsError: it is none of this kind.
    """
    parts = urlsplit(url)
    path = unquote(parts.path[1:])
    if parts.scheme != "sqlite" or parts.netloc or parts.fragment or "\0" in path:
        raise SettingsError(f"store={url!r}: {_FORM}")
    if path in ("", ":memory:") or path.startswith("file:"):
        raise SettingsError(
            f"store={url!r} names no file, and what is in memory survives nothing: {_FORM}"
        )
    try:
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as exc:
        raise SettingsError(f"store={url!r}: {exc}: {_FORM}") from exc
    options = dict(given)
    synchronous = options.pop("synchronous", "FULL").upper()
    busy_timeout = _seconds(options.pop("busy_timeout", "10"))
    if options or len({name for name, _ in given}) < len(given):
        raise SettingsError(f"store={url!r} has an unknown option, or one twice: {_FORM}")
    if synchronous not in ("FULL", "NORMAL"):
        raise SettingsError(f"store={url!r}: synchronous is FULL or NORMAL, not {synchronous!r}")
    if busy_timeout is None:
        raise SettingsError(
            f"store={url!r}: busy_timeout is a number of seconds, above 0 and at most 3600"
        )
    return Location(os.path.abspath(path), synchronous, busy_timeout)  # type: ignore[arg-type]


def _seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and 0 < seconds <= 3600 else None


def check_place(path: str) -> None:
    """Check that tasks can be kept in a file.

    Raises:
        SettingsError: its directory is not there or not writable, it is no file, or on a file
            system of the network.
    """
    directory = os.path.dirname(path)
    if not os.path.isdir(directory):
        raise SettingsError(
            f"the directory of the store {path} is not there: make it, for the user of the server"
        )
    if not os.access(directory, os.W_OK | os.X_OK):
        raise SettingsError(
            f"the directory of the store {path} must be writable for the user of the server: "
            "SQLite makes files beside it"
        )
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise SettingsError(f"the store {path} is no file")
        if not os.access(path, os.R_OK | os.W_OK):
            raise SettingsError(
                f"the store {path} must be readable and writable for the user of the server"
            )
    kind = network_file_system(directory)
    if kind is not None:
        raise SettingsError(
            f"the store {path} is on a file system of the network ({kind}), where neither SQLite's "
            "locks nor its shared memory can be relied on: take a local disk, or for several "
            "machines a database server"
        )


def network_file_system(directory: str, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the kind of the file system of a directory if it is one of a network.

    Args:
        directory: its real path.
        mounts: what is mounted, as Linux lists it. Elsewhere nothing is told.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    found = ("", "")
    for line in lines:
        _, point, kind, *_ = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), point)
        if len(point) >= len(found[0]) and _is_within(directory, point):
            found = (point, kind)  # of two at the same point the later one hides the other
    return found[1] if _NETWORK.fullmatch(found[1]) else None


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
