"""Every test says which views are served, and how."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from django.db import connections

from tests.django.serving import HOSTS, Site
from tests.django.settings import DIRECTORY


@pytest.fixture(scope="session", autouse=True)
def _no_files_left() -> Iterator[None]:
    yield
    connections.close_all()
    shutil.rmtree(DIRECTORY, ignore_errors=True)


@pytest.fixture
def site() -> Iterator[Site]:
    """What is served, and a way to request it through Django's sync test client."""
    with Site(HOSTS["client"]) as made:
        yield made


@pytest.fixture(params=HOSTS)
def everywhere(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The same on every handler: both test clients, WSGI and ASGI called directly."""
    with Site(HOSTS[request.param]) as made:
        yield made


@pytest.fixture(params=["wsgi", "asgi"])
def handler(request: pytest.FixtureRequest) -> Iterator[Site]:
    """The same on the two handlers that servers call."""
    with Site(HOSTS[request.param]) as made:
        yield made
