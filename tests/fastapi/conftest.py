"""Applications with and without set-up."""

from __future__ import annotations

import pytest
from fastapi import FastAPI

from bgadapters.fastapi import init_app


@pytest.fixture(params=["by itself", "with init_app"])
def app(request: pytest.FixtureRequest) -> FastAPI:
    """An application, with and without set-up."""
    made = FastAPI()
    if request.param == "with init_app":
        init_app(made)
    return made
