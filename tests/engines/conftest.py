"""What the tests of engines share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.engines.bench import Bench


@pytest.fixture(scope="class")
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Bench]:
    """A broker with a worker, which the tests of a class share."""
    contract: Any = request.cls
    bench: Bench = contract.bench_type(tmp_path_factory.mktemp("shared"))
    with bench.worker():
        yield bench
    bench.close()
