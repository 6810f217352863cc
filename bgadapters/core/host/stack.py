"""Who has called."""

from __future__ import annotations

from collections.abc import Iterator
from types import FrameType


def callers() -> Iterator[FrameType]:
    """Return the frames below the one that asks, from the innermost."""
    from inspect import currentframe  # which is slow to import

    frame = currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
