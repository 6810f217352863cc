"""Tasks in a file of SQLite: what holds for this store alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stores.contract import StoreContract
from tests.stores.processes import Place


class TestContract(StoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(f"sqlite:///{tmp_path}/tasks.db")
