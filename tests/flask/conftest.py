"""An application with the extension, and a client that closes responses as servers do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from bgadapters import drain
from bgadapters.flask import BackgroundTasks

Get = Callable[..., TestResponse]


@pytest.fixture
def app() -> Flask:
    return Flask("app")


@pytest.fixture
def tasks(app: Flask) -> BackgroundTasks:
    return BackgroundTasks(app)


@pytest.fixture
def get(app: Flask) -> Iterator[Get]:
    """Make a request, close its response and wait for its tasks."""

    def get(path: str = "/", **options: Any) -> TestResponse:
        try:
            return app.test_client().open(path, buffered=True, **options)
        finally:
            assert drain(10) == []

    yield get
    assert drain(10) == []


@pytest.fixture
def log() -> list[str]:
    """What happened, in the order it did."""
    return []
