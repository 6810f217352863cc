"""What the suites of options share: every way to serve, both kinds of tasks, and who listens."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bgadapters import TaskEvent
from tests.core.ways import as_coroutine_function
from tests.options.frameworks import MAKE, Serve


@pytest.fixture
def heard() -> Iterator[list[TaskEvent]]:
    """What is told. A file that a broken stream leaves behind warns before the test ends."""
    gc.freeze()  # garbage is looked for among what this test makes: all there is takes ten times it
    events: list[TaskEvent] = []
    yield events
    events.clear()
    gc.collect()


@pytest.fixture(params=MAKE)
def serve(request: pytest.FixtureRequest, heard: list[TaskEvent]) -> Serve:
    return MAKE[request.param](heard.append)


@pytest.fixture(params=["sync", "async"])
def flavour(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return as_coroutine_function if request.param == "async" else lambda func: func
