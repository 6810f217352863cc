"""The wheel beside pytest and nothing else: the plugin is there, and its fixture works.

Some of the tests have to fail, so what pytest prints is shown only if something else is wrong.
"""

import io
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

TEST = """
from bgadapters import BackgroundTasks

def test_it(background_tasks):
    with BackgroundTasks() as tasks:
        tasks.add_task(print, "it")
    assert background_tasks.assert_added_once(print, "it").outcome == "succeeded"

def test_that_fails():
    with BackgroundTasks() as tasks:
        tasks.add_task(divmod, 1, 0)

def test_that_fails_twice():
    with BackgroundTasks() as tasks:
        tasks.add_task(divmod, 1, 0)
        tasks.add_task(divmod, 1, 0)
"""


class Outcomes:
    """What became of the tests."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.seen[report.nodeid.rpartition("::")[2]] = report.outcome


Path("test_it.py").write_text(TEST)
outcomes = Outcomes()
with redirect_stdout(io.StringIO()) as printed:
    pytest.main(["-q", "-p", "no:cacheprovider", "-W", "error", "test_it.py"], plugins=[outcomes])
failed = dict.fromkeys(("test_that_fails", "test_that_fails_twice"), "failed")
expected = {"test_it": "passed", **failed}
assert outcomes.seen == expected, printed.getvalue()
assert not {"fastapi", "django", "flask", "asgiref"} & sys.modules.keys()
