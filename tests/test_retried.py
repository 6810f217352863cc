"""What `make test` says at its end of the tests that it tried twice."""

from __future__ import annotations

import pytest

from tests import retried

TESTS = """
import pytest

@pytest.fixture
def broken():
    raise OSError("no such thing")

def test_fails():
    raise ValueError("first line\\nsecond line")

def test_passes():
    pass

def test_needs(broken):
    pass
"""


def test_every_first_failure_is_named_with_its_first_line(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(test_some=TESTS)
    pytester.runpytest_subprocess("-p", "no:randomly", "--junit-xml", "first.xml")

    capsys.readouterr()
    retried.main("first.xml", "never-begun.xml")

    assert capsys.readouterr().out.splitlines() == [
        "Tried twice: test_some.test_fails: ValueError: first line",
        'Tried twice: test_some.test_needs: failed on setup with "OSError: no such thing"',
    ]


def test_where_all_passed_it_is_said(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    pytester.makepyfile(test_some="def test_passes(): pass")
    pytester.runpytest_subprocess("-p", "no:randomly", "--junit-xml", "first.xml")

    capsys.readouterr()
    retried.main("first.xml")

    assert capsys.readouterr().out == "Nothing was tried twice\n"
