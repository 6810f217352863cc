"""What holds for every store, for that of SQLAlchemy: and what is its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stores.contract import Place, StoreContract
from tests.stores.sql_databases import DATABASES, LEASE, url_of


@pytest.fixture(params=DATABASES)
def url(request: Any, tmp_path: Path) -> Iterator[str]:
    with url_of(request.param, tmp_path) as url:
        yield url


class TestContract(StoreContract):
    @pytest.fixture
    def place(self, url: str) -> Place:
        return Place(url, patience=LEASE + 5)
