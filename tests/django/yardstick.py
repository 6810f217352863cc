"""Django's own tests of its tasks framework, run against our backend: ``make yardstick``.

They are in Django's sdist alone. Its tests of the immediate backend are given ours with a drain
after each ``enqueue``, those of the dummy backend ours with a response that is never over.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
BACKENDS = "tests.django.yardstick_backends"
DO_NOT_APPLY = {
    "test_cannot_get_result": "results can be had",
    "test_cannot_refresh_result": "results can be had",
    "test_cannot_pass_run_after": "run_after is supported",
    "test_doesnt_wait_until_transaction_commit_by_default": "the commit is waited for",
    "test_throws_keyboard_interrupt": "no task ends its process",
    "test_refresh_result": "the dummy backend's own list is written into",
    "test_refresh_result_async": "the dummy backend's own list is written into",
}
"""Tests that expect what other backends do, and what is otherwise with ours."""


def failures(tests: Path) -> tuple[int, set[str]]:
    """Run the tests; return how many there were and the names of those that have failed."""
    for path in tests.glob("tasks/test_*.py"):
        ours = re.sub(r"django\.tasks\.backends\.(dummy|immediate)\b", BACKENDS, path.read_text())
        path.write_text(ours)
    runner = tests / "runtests.py"
    apps = "ALWAYS_INSTALLED_APPS = ["
    runner.write_text(runner.read_text().replace(apps, f'{apps} "bgadapters.django", '))
    done = subprocess.run(
        [sys.executable, runner.name, "tasks", "--parallel=1"],
        cwd=tests,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    ran = re.search(r"^Ran (\d+) tests", done.stderr, re.MULTILINE)
    assert ran is not None, done.stderr
    failed = re.findall(r"^(?:FAIL|ERROR): (\w+)", done.stderr, re.MULTILINE)
    unexpected = set(failed) - set(DO_NOT_APPLY)
    if unexpected:
        print(done.stderr)
    return int(ran[1]), set(failed)


def main(sdist: str) -> int:
    """Print what came of it; 1 if a test has failed that applies."""
    with TemporaryDirectory() as folder, tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
        (tests,) = Path(folder).glob("*/tests")
        number, failed = failures(tests)
    print(f"{number} tests, of which {len(failed)} have failed")
    for name in sorted(failed):
        print(f"  {name}: {DO_NOT_APPLY.get(name, 'IT APPLIES')}")
    for name in sorted(set(DO_NOT_APPLY) - failed):
        print(f"  {name} has passed: it need not be excepted")
    return int(failed != set(DO_NOT_APPLY))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
