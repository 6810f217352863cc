import logging
from logging.handlers import BufferingHandler

import pytest
from bgadapters import drain


@pytest.fixture(autouse=True)
def no_task_fails():
    heard = BufferingHandler(capacity=1000)
    heard.setLevel(logging.WARNING)
    logger = logging.getLogger("bgadapters")
    logger.addHandler(heard)
    yield
    drain()
    logger.removeHandler(heard)
    assert [record.getMessage() for record in heard.buffer] == []
