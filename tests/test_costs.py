"""Which tests the inner loop cannot afford, and how that is found out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import costs

TESTS = """
import subprocess, sys, time
import pytest

BURN = "import time\\nend = time.process_time() + 0.7\\nwhile time.process_time() < end: pass"

def test_burns():
    exec(BURN, {})

@pytest.mark.parametrize("n", [1])
def test_waits_for_one_that_burns(n):
    subprocess.run([sys.executable, "-c", BURN], check=True)

def test_sleeps():
    time.sleep(0.7)
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_what_uses_a_processor_is_listed(
    pytester: pytest.Pytester, tmp_path: Path, workers: tuple[str, ...]
) -> None:
    file = tmp_path / "costs.txt"
    pytester.makeconftest("from tests.conftest import *")
    pytester.makepyfile(test_some=TESTS)
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--costs", file, *workers)
    result.assert_outcomes(passed=3)
    assert costs.read(file) == {
        "test_some.py::test_burns",
        "test_some.py::test_waits_for_one_that_burns",
    }


def test_cases_of_one_function_are_costly_together() -> None:
    many = [(f"test.py::many[{n}]", 0.125) for n in range(4)]
    few = [(f"test.py::few[{n}]", 0.125) for n in range(2)]
    dear = [("test.py::dear", 0.25), ("test.py::cheap", 0.125)]
    found = costs.costly([*many, *few, *dear])
    assert found == {"test.py::dear": 0.25, "test.py::many": 0.5}


def test_what_is_listed_has_the_mark(request: pytest.FixtureRequest) -> None:
    listed = costs.read(costs.LIST)
    items = {costs.function_of(item.nodeid): item for item in request.session.items}
    for name in listed & set(items):
        assert items[name].get_closest_marker("costly"), name
    for name in set(items) - listed:
        assert not items[name].get_closest_marker("costly"), name
