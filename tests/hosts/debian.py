"""What the servers from Debian's packages have in common: a directory, and who may read it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

UNPRIVILEGED = "www-data"  # whom such a server becomes when root starts it
IS_ROOT = os.geteuid() == 0


def require(program: str, package: str) -> str:
    """The path of a program; skips the test where its package is missing."""
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        pytest.skip(f"{program} is not installed (Debian's package {package})")
    return found


def make_directory() -> tempfile.TemporaryDirectory[str]:
    """A temporary directory that the unprivileged processes of a server may use as well."""
    directory = tempfile.TemporaryDirectory(prefix="bgadapters-", ignore_cleanup_errors=True)
    if IS_ROOT:
        shutil.chown(directory.name, UNPRIVILEGED)
        Path(directory.name).chmod(0o755)
    return directory


def require_readable(*paths: Path) -> None:
    """Skip the test where the unprivileged processes of a server cannot read these."""
    if not IS_ROOT:
        return
    for path in paths:
        for part in (path, *path.parents):
            if not part.stat().st_mode & 0o001:
                pytest.skip(f"started by root, the server runs as {UNPRIVILEGED}: no way to {part}")


def site_packages() -> Path:
    """Where the packages of the running interpreter are."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return Path(sys.prefix) / "lib" / version / "site-packages"
