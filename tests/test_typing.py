"""What type checkers say of right and wrong calls, as in typing_tests."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec("mypy") is None:
        pytest.skip("mypy is not installed in this environment")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml")]
    return subprocess.run(
        [*command, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_right_calls_pass_and_every_wrong_one_is_an_error() -> None:
    """Each wrong call has an ignore, and an ignore that is not needed is an error itself."""
    result = mypy("-p", "typing_tests")
    assert result.returncode == 0, result.stdout


def test_an_ignore_that_is_not_needed_is_an_error(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    right = tmp_path / "right.py"
    right.write_text("import bgadapters\nbgadapters.add_task(print)  # type: ignore[arg-type]\n")
    result = mypy(str(right))
    assert result.returncode == 1
    assert "unused-ignore" in result.stdout
