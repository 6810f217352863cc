"""The command line: its usage, its exit codes, its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bgadapters.__main__ import main
from bgadapters.core.app.runtime import CHECK_TOKEN as TOKEN
from tests.check.conftest import Check
from tests.core.ways import PATIENCE

APP = "tests.check.apps:flask_app()"


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bgadapters", *arguments],
        env={**{k: v for k, v in os.environ.items() if k != TOKEN}, **environ},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )


def test_alone_it_prints_its_help() -> None:
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert "check" in done.stdout


@pytest.mark.slow
def test_findings_are_lines_with_advice_indented() -> None:
    done = run("check", APP, "--path", "/gone")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == APP
    assert lines[1].startswith("ok      ")
    assert lines[2].startswith("FAILED  ")
    assert lines[3].startswith("        That is as it should be")
    assert lines[-1].startswith("note    ")


@pytest.mark.slow
def test_what_the_application_prints_is_no_finding() -> None:
    done = run("check", "tests.check.prints:app")
    assert done.stdout.splitlines()[0] == "tests.check.prints:app"
    assert "printed by the application" in done.stderr


LATE = """\
from tests.check.apps import flask_app
app = flask_app()
from gevent import monkey
monkey.patch_all()
"""


@pytest.mark.slow
def test_gevent_that_patches_late_does_not_block_the_check(tmp_path: Path) -> None:
    """Its workers would, since they run in the same process here."""
    pytest.importorskip("gevent")
    (tmp_path / "patches_late.py").write_text(LATE)
    done = run("check", "patches_late:app", PYTHONPATH=f"{tmp_path}", PYTHONWARNINGS="ignore")
    assert done.returncode == 1
    assert "FAILED  gevent has patched Python after bgadapters was set up" in done.stdout
    assert done.stdout.count("FAILED") == 1


def test_json(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", APP, "--json"])
    (target,) = json.loads(capsys.readouterr().out).items()
    assert target[0] == APP
    assert set(target[1][0]) == {"verdict", "about", "text", "advice"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "nowhere:app"], "no module 'nowhere'"),
        (["check", APP, "--header", "no colon"], "'no colon' is not 'Name: value'"),
        (["check", APP, "--header", "two words: x"], "is not 'Name: value'"),
        (["check", APP, "--interface", "cgi"], "invalid choice"),
        (["check", "http://127.0.0.1:1/"], f"set {TOKEN}"),
        (["mend"], "invalid choice"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(TOKEN, "")
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert said in capsys.readouterr().err


def test_a_token_that_the_server_would_refuse(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(SystemExit, match="2"):
        main(["check", "http://127.0.0.1:1/"])
    assert "at least 16 characters" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interface_may_be_named(check: Check) -> None:
    assert check("tests.check.apps:asgi_app()", "--interface", "asgi").code == 0
    wrong = check("tests.check.apps:asgi_app()", "--interface", "wsgi")
    assert wrong.failed == ["queue"]
    assert "TypeError" in wrong.the("queue").text


def test_an_application_that_cannot_be_imported(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    report = check("tests.check.raises:app")
    assert report.code == 1
    assert report.the("queue").text == "importing it raised OSError: no configuration"


def test_in_this_process(check: Check, capsys: pytest.CaptureFixture[str]) -> None:
    """The same, without a process of its own."""
    assert main([]) == 0
    assert "check" in capsys.readouterr().out
    assert main(["check", APP]) == 0
    assert capsys.readouterr().out.splitlines()[0] == APP
