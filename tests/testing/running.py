"""Run one of the suites beside this file as its users would: in a pytest of its own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

HERE = Path(__file__).parent
FRAMEWORKS = {
    "fastapi": ("fastapi", "starlette"),
    "django": ("django", "rest_framework", "asgiref"),
    "flask": ("flask", "werkzeug"),
}
PLUGINS = ("anyio", "asyncio", "cov", "django", "faker", "hypothesispytest", "randomly", "xdist")

_REPORTER = """
import json, os

def pytest_runtest_logreport(report):
    if "PYTEST_XDIST_WORKER" not in os.environ:
        with open("reports.jsonl", "a") as file:
            name = report.nodeid.rpartition("::")[2]
            print(json.dumps([name, report.when, report.outcome, report.longreprtext]), file=file)
"""

_PYTEST = """
import sys
absent = sys.argv.pop(1).split()
sys.modules.update(dict.fromkeys(absent))
import pytest
sys.exit(pytest.main())
"""


class Ran(NamedTuple):
    """What became of a test: passed, failed, skipped, or error (set-up, tear-down); and why."""

    outcome: str
    text: str


def run_suite(
    pytester: pytest.Pytester,
    name: str,
    *arguments: str,
    ini: str = "",
    plugins: str = "",
    frameworks: str = "",
    mark: str = "",
    **environ: str,
) -> dict[str, Ran]:
    """Run ``suites/<name>.py`` with warnings as errors, where no other framework can be imported.

    Each of its tests has to pass, save those whose names tell otherwise: ``test_fails_...``,
    ``test_errors_...``, ``test_skips_...``.

    Args:
        arguments: those of pytest.
        ini: further lines of its configuration.
        plugins: the names of those that are there besides ours, of `PLUGINS`.
        frameworks: the names of those that are there, of `FRAMEWORKS`.
        mark: of all of its coroutines, for plugins that ask for one.
        environ: further variables.
    """
    install(pytester, name, ini, mark)
    absent = " ".join(
        module
        for framework, modules in FRAMEWORKS.items()
        for module in modules
        if framework not in frameworks.split()
    )
    without = [f"-pno:{plugin}" for plugin in PLUGINS if plugin not in plugins.split()]
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "DJANGO_SETTINGS_MODULE"):
            patch.delenv(variable, raising=False)
        for variable, value in {**environ, "PYTHONPATH": str(HERE.parents[1])}.items():
            patch.setenv(variable, value)
        result = pytester.run(
            *(sys.executable, "-c", _PYTEST, absent), *without, *arguments, timeout=60
        )
    assert result.ret in {0, 1}, "the run itself has failed, see its output"
    return judged(pytester)


def install(pytester: pytest.Pytester, name: str, ini: str = "", mark: str = "") -> None:
    """Put a suite where pytest finds it."""
    suite = (HERE / "suites" / f"{name}.py").read_text()
    if mark:
        suite = suite.replace("\nasync def test_", f"\n@pytest.mark.{mark}\nasync def test_")
    pytester.makefile(".ini", pytest=f"[pytest]\nfilterwarnings = error\n{ini}")
    pytester.makeconftest(_REPORTER)
    pytester.makepyfile(**{f"test_{name}": suite})


def judged(pytester: pytest.Pytester) -> dict[str, Ran]:
    """Read the reports of a run; compare them with what the names of the tests announce."""
    ran: dict[str, Ran] = {}
    for line in (pytester.path / "reports.jsonl").read_text().splitlines():
        name, when, outcome, text = json.loads(line)
        if outcome == "failed" and when != "call":
            ran[name] = Ran("error", text)
        elif when == "call" or outcome == "skipped":
            ran[name] = Ran(outcome, text)
    assert ran, "no test has run"
    expected = {name: _announced(name) for name in ran}
    assert {name: result.outcome for name, result in ran.items()} == expected
    return ran


def _announced(name: str) -> str:
    words = {"fails": "failed", "errors": "error", "skips": "skipped"}
    return words.get(name.split("_")[1], "passed")
