"""What holds for every store, in databases of Django's."""

from __future__ import annotations

import json

import pytest
from django.db import connections

from tests.stores.contract import StoreContract
from tests.stores.processes import Place


def described(alias: str) -> str:
    """The settings of a database, for other processes."""
    settings = connections.settings[alias]
    names = "ENGINE", "NAME", "HOST", "PORT", "USER"
    return json.dumps({name: settings[name] for name in names if settings.get(name)})


@pytest.mark.slow  # processes that end, and leases
class TestContract(StoreContract):
    @pytest.fixture
    def place(self, alias: str, monkeypatch: pytest.MonkeyPatch) -> Place:
        monkeypatch.setenv("DATABASE", described(alias))
        monkeypatch.setenv("ALIAS", alias)
        prepare = "tests.durable_site.prepare:prepare"
        return Place(f"django://{alias}?lease=2", prepare, patience=10.0)
