"""Every test says which views are served, and how."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from bgadapters.django import background_tasks
from tests.django.serving import HOSTS, MIDDLEWARE, Log, Site
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


@pytest.fixture(params=["decorator", "middleware"])
def serve(request: pytest.FixtureRequest) -> Callable[..., Site]:
    """Serve a view with a queue, had one way or the other."""

    def serve(site: Site, view: Any, *middleware: str, **settings: Any) -> Site:
        if request.param == "decorator":
            return site.serve(background_tasks(view), MIDDLEWARE=middleware, **settings)
        return site.serve(view, MIDDLEWARE=[MIDDLEWARE, *middleware], **settings)

    return serve


@pytest.fixture
def log() -> Log:
    """What happened, in the order it did."""
    return []
