"""What is entered in the context of a task that another process has added."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bgadapters.core.app.runtime import Runtime
    from bgadapters.core.model.batch import Batch

to_enter: list[Callable[[Runtime, Batch], object]] = []
"""Called there with the application and the batch of the task. Filled by imports alone."""
