"""Whose task is running here."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgadapters.core.model.batch import Batch

owner: ContextVar[Batch | None] = ContextVar("bgadapters.owner", default=None)
"""The batch whose task is running here: that task alone may still add to the batch."""


def is_in_task() -> bool:
    """Whether a task has called this, in whatever thread."""
    return owner.get() is not None
