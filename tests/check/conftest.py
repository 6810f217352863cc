"""Fixtures: run the command in this process, as far as that is possible."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from bgadapters.__main__ import main
from bgadapters.check import evidence
from bgadapters.check.findings import Finding
from bgadapters.core.api import probe
from bgadapters.core.app import runtime
from bgadapters.core.app.runtime import CHECK_TOKEN as TOKEN
from tests.core.ways import PATIENCE

SECRET = "a-token-for-tests-alone"


class Report:
    """What a check has found."""

    def __init__(self, code: int, findings: list[Finding]) -> None:
        self.code = code
        self.findings = findings

    def __repr__(self) -> str:
        """What was found to be bad, for the message of a test."""
        bad = [f"{f.about}: {f.text}" for f in self.findings if f.verdict == "FAILED"]
        return f"<Report {self.code}, {bad}>"

    def about(self, *questions: str) -> list[str]:
        """The verdicts on these questions, or on all of them, in order of appearance."""
        found = [f for f in self.findings if not questions or f.about in questions]
        return [f"{f.about} {f.verdict}" for f in found]

    def the(self, question: str) -> Finding:
        """The finding on one question."""
        (finding,) = (f for f in self.findings if f.about == question)
        return finding

    @property
    def failed(self) -> list[str]:
        """The questions whose answer is bad."""
        return [f.about for f in self.findings if f.verdict == "FAILED"]


Check = Callable[..., Report]


@pytest.fixture
def check_apart() -> Check:
    """Do so in a process of its own, with which goes what an adapter has left lying about."""

    def run(target: str, *arguments: str) -> Report:
        done = subprocess.run(
            [sys.executable, "-m", "bgadapters", "check", target, *arguments, "--json"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in {0, 1}, done.stderr
        (found,) = json.loads(done.stdout).values()
        return Report(done.returncode, [Finding(**each) for each in found])

    return run


@pytest.fixture
def in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the gates of a probe opened in time, where nobody waits for its tasks.

    A machine that is busy for half a second seems to wait for them.
    """
    for module, name in ((probe, "HOLD"), (probe, "_BUDGET"), (evidence, "HOLD")):
        monkeypatch.setattr(module, name, PATIENCE)


@pytest.fixture
def seen_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is reported while a response is sent seen, however late it comes."""
    monkeypatch.setattr(evidence, "_GLANCE", PATIENCE)


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the command and return what it has found."""
    monkeypatch.setenv(TOKEN, SECRET)
    monkeypatch.setattr(runtime, "_default", {})  # one with a probe, for this test

    def run(target: str, *arguments: str) -> Report:
        code = main(["check", target, *arguments, "--json"])
        (found,) = json.loads(capsys.readouterr().out).values()
        return Report(code, [Finding(**each) for each in found])

    return run
