"""A process ends while a transaction is under way: its tasks wait for it, and are not forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
    import sys, threading
    from django.conf import settings
    settings.configure(
        BACKGROUND_TASKS={"DRAIN_TIMEOUT": float(sys.argv[1])},
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[2]}},
        INSTALLED_APPS=["bgadapters.django"],
    )
    import django
    django.setup()
    from django.db import transaction
    from bgadapters.django import BackgroundTasks

    held = threading.Event()

    def see():
        print("the task", flush=True)

    def work():
        with transaction.atomic():
            with BackgroundTasks() as tasks:
                tasks.add_task(see)
            held.set()
            sys.stdin.readline()

    threading.Thread(target=work, daemon=True).start()
    held.wait()
    print("held", flush=True)
    if sys.argv[3] == "sigterm":
        while True:
            threading.Event().wait(60)
"""


@contextmanager
def running(tmp_path: Path, timeout: float, end: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is about to end, in which the first task of all is held."""
    script = textwrap.dedent(SCRIPT)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(timeout), str(tmp_path / "db.sqlite3"), end],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        if end == "sigterm":
            process.send_signal(signal.SIGTERM)
        yield process


@pytest.mark.parametrize("end", ["by itself", "sigterm"])
def test_the_transaction_gets_its_time(tmp_path: Path, end: str) -> None:
    with running(tmp_path, 30, end) as process:
        assert process.stderr is not None
        assert "The process ends when 1 background task(s)" in process.stderr.readline()
        out, _ = process.communicate("commit\n", timeout=60)
    assert out == "the task\n"
    assert process.returncode == 0


@pytest.mark.parametrize("end", ["by itself", "sigterm"])
def test_what_is_not_committed_in_time_is_named(tmp_path: Path, end: str) -> None:
    with running(tmp_path, 0.2, end) as process:
        process.wait(60)
        assert process.stdout is not None
        assert process.stderr is not None
        out, err = process.stdout.read(), process.stderr.read()
    assert out == ""
    assert "1 background task(s) abandoned" in err
    assert "__main__.see" in err
