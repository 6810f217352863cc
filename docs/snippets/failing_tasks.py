import logging

import pytest
from bgadapters import drain


@pytest.fixture(autouse=True)
def no_task_fails(caplog):
    yield
    drain()
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    warnings = [r for r in records if r.name == "bgadapters" and r.levelno >= logging.WARNING]
    assert [r.getMessage() for r in warnings] == []
