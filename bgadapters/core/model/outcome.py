"""How a response has ended, for the tasks that run after it."""

from __future__ import annotations

from typing import NamedTuple

Ended = tuple[int | str | None, BaseException | None, bool]
"""The fields of a `ResponseOutcome`, of which one is made when a task asks; WSGI has a line for
the status."""

NOT_ENDED: Ended = (None, None, False)


class ResponseOutcome(NamedTuple):
    """How a response has ended.

    For a task that was flushed, and so may run before that: what was known when it asked.

    Attributes:
        status: its status code, such as 200. None if no response was made, or none was seen.
        exception: what made it fail, so that its tasks were discarded; None if it succeeded. An
            exception that a handler has answered is one of these. A status of 500 is none.
        client_left: whether the client was seen to leave before it had the whole response.
    """

    status: int | None
    exception: BaseException | None
    client_left: bool

    @property
    def succeeded(self) -> bool:
        """Whether nothing has made it fail; what ``run_on`` goes by."""
        return self.exception is None


def outcome_of(ended: Ended) -> ResponseOutcome:
    """Return what was noted of a response."""
    status, exception, client_left = ended
    code = int(status.split(" ", 1)[0]) if isinstance(status, str) else status
    return ResponseOutcome(code, exception, client_left)
