"""A function that nobody has told an application of: no message may have it called."""

from __future__ import annotations

from tests.engines.work import say


def reached() -> None:
    say("reached")
