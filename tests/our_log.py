"""What bgadapters has said in its log."""

from __future__ import annotations

import logging

import pytest


class OurLog:
    """The records of our logger so far, in this test; those of other loggers are left out."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog

    @property
    def records(self) -> list[logging.LogRecord]:
        """All of them."""
        return [record for record in self._caplog.records if record.name == "bgadapters"]

    @property
    def messages(self) -> list[str]:
        """Their text."""
        return [record.getMessage() for record in self.records]

    @property
    def warnings(self) -> list[str]:
        """The text of those at level WARNING."""
        return [r.getMessage() for r in self.records if r.levelno == logging.WARNING]
