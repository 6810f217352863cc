"""What the views of several frameworks' tests do alike."""

from __future__ import annotations

from typing import Any


def add_both(queue: Any, log: list[Any]) -> None:
    """Add a task that must not run when the response fails, and one that must."""
    queue.add_task(log.append, "never")
    queue.options(always=True).add_task(log.append, "always")
