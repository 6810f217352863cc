"""The table of docs/engines.md says what add_task says today."""

from __future__ import annotations

import pytest

from bgadapters.adapters import mode
from tests.engines import table


def test_the_table_is_what_would_be_written_today() -> None:
    """``python -m tests.engines.table`` writes it."""
    for needed in ("celery", "huey", "procrastinate", "psycopg", "redis"):
        pytest.importorskip(needed)
    assert table.written() == table.table()
    assert mode.active is mode.SERVING, "it is as it was"
