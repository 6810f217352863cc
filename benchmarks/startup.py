"""What an import costs, and a shim that is installed and not used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from benchmarks.measure import Effort, Samples, interleave
from benchmarks.results import Table, Topic, cell
from benchmarks.server import ROOT

_IMPORTS = {
    "bgadapters": ("", "bgadapters"),
    "bgadapters.adapters": ("", "bgadapters.adapters"),  # with what runs tasks
    "starlette.background": ("", "starlette.background"),
    "logging, typing": ("", "logging, typing"),
    "concurrent.futures.thread": ("", "concurrent.futures.thread"),
    "flask_executor": ("", "flask_executor"),
    "fastapi": ("", "fastapi"),
    "bgadapters.fastapi, after fastapi": ("fastapi", "bgadapters.fastapi"),
    "django.http": ("", "django.http"),
    "bgadapters.django, after django.http": ("django.http", "bgadapters.django"),
    "flask": ("", "flask"),
    "bgadapters.flask, after flask": ("flask", "bgadapters.flask"),
    "bgadapters.asgi": ("", "bgadapters.asgi"),
    "bgadapters.wsgi": ("", "bgadapters.wsgi"),
}
"""By name: what is imported before, and what is measured."""
_WITH_BAR = ("bgadapters", "starlette.background")
_FRAMEWORKS = ("fastapi", "django", "flask")


def import_seconds(before: str, module: str) -> float:
    """The time that an import takes in a fresh process."""
    code = (
        f"import time{', ' + before if before else ''}\n"
        "started = time.perf_counter()\n"
        f"import {module}\n"
        "print(time.perf_counter() - started)"
    )
    # Compiled once, as an installed package is, whatever the environment says to that.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    return float(run.stdout)


def _imports(effort: Effort) -> tuple[Table, Samples]:
    cases = {name: partial(import_seconds, *modules) for name, modules in _IMPORTS.items()}
    found = interleave(cases, effort.fewer)
    found |= interleave({name: cases[name] for name in _WITH_BAR}, effort.rounds)
    rows = [(name, cell(samples, 1e3)) for name, samples in found.items()]
    ratio = found[_WITH_BAR[0]].per(found[_WITH_BAR[1]])
    return Table("Import in a fresh process", ("module", "ms"), rows), ratio


def _unused(effort: Effort) -> Table:
    """A request of an application that has the shim, and of one that has not."""
    valgrind = shutil.which("valgrind")
    rows = []
    if valgrind is not None:
        counted = partial(_instructions, requests=max(3, int(30 * effort.size)))
        with ThreadPoolExecutor(2) as pool:  # what is counted does not vary with other work
            found = dict(zip(_FRAMEWORKS, pool.map(counted, _FRAMEWORKS), strict=True))
        for framework, (without, with_it) in found.items():
            more = with_it - without
            rows.append(
                (framework, f"{without:,.0f}", f"{more:,.0f}", f"{100 * more / without:.2g} %")
            )
    else:
        for framework in _FRAMEWORKS:
            times = _times(framework, effort.rounds)
            more_time = times["with"].per(times["without"])
            rows.append((framework, cell(times["without"], 1e6), "", cell(more_time)))
    unit = "instructions" if valgrind else "us"
    note = (
        "Counted by callgrind, which sees every instruction and does not vary with the load."
        if valgrind
        else "valgrind is not here, so time stands for instructions; the last column is a ratio."
    )
    head = ("framework", f"a request, {unit}", "with the shim, more", "more, of all")
    return Table("A request that adds no task", head, rows, note)


def _instructions(framework: str, requests: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--instr-atstart=no"),
                f"--callgrind-out-file={folder}/out",
                *(sys.executable, "-m", "benchmarks.apps.in_process", framework, str(requests)),
            ],
            cwd=ROOT,
            env={"PYTHONHASHSEED": "0", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=True,
        )
        totals = [_total(Path(folder, f"out.{number}")) for number in (1, 2)]
    return totals[0] / requests, totals[1] / requests


def _total(dump: Path) -> int:
    found = re.search(r"^(?:totals|summary): (\d+)", dump.read_text(), re.MULTILINE)
    assert found is not None, dump
    return int(found[1])


def _times(framework: str, rounds: int) -> dict[str, Samples]:
    from benchmarks.apps import in_process

    with in_process.requesters(framework) as ways:
        return interleave(
            {name: partial(in_process.seconds_a_request, way) for name, way in ways.items()},
            rounds,
        )


def measure(effort: Effort) -> Topic:
    """Measure imports and idle shims."""
    imports, ratio = _imports(effort)
    return Topic(
        "Start-up and idle cost",
        "Imports are timed inside a fresh process, without the interpreter's own start.",
        [imports, _unused(effort)],
        [],
        {"import": ratio},
    )
