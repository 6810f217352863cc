"""An operation whose result has errors has failed: its tasks are discarded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bgadapters.adapters import NoResponseError, current_queue


class Operation:
    """One operation of a request, which may have others before it.

    It is to be made when the operation begins.
    """

    __slots__ = ("_queue", "_since")

    def __init__(self) -> None:
        try:
            self._queue: Any = current_queue()
        except NoResponseError:  # nobody has opened a queue for this request
            self._queue = None
        else:
            self._since = self._queue.position

    def end(self, errors: Sequence[Any] | None) -> None:
        """Discard what was added since it began, if there are errors.

        Args:
            errors: those of its result, as graphql-core has them.
        """
        if errors and self._queue is not None:
            cause = getattr(errors[0], "original_error", None) or errors[0]
            self._queue.discard(cause, self._since)
