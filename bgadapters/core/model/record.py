"""What is known of the life of one task, beside its call.

A task of which nobody hears has none: one is made where something is to be told of it. Times are
those of `time.monotonic`, and become those of the wall clock when they are asked for; so do ids.
"""

from __future__ import annotations

import os
import time
from itertools import count
from typing import Literal, Protocol

from bgadapters.core.model.outcome import ResponseOutcome

Outcome = Literal["succeeded", "failed", "discarded", "replaced", "abandoned", "sent"]
"""How a task has ended. Each ends in exactly one of these."""

_numbers = count(1)
_prefixes: dict[int, str] = {}  # by process: a forked child counts on from its parent's numbers


def next_number() -> int:
    """Return a number that nothing else in this process has."""
    return next(_numbers)


def id_of(number: int) -> str:
    """Return an id, of 32 hexadecimal digits, for a number of this process.

    Its first half is random and differs in each process; the second half is the number.
    """
    process = os.getpid()
    prefix = _prefixes.get(process) or _prefixes.setdefault(process, os.urandom(8).hex())
    return f"{prefix}{number:016x}"


class Origin(Protocol):
    """The queue of a task, and the request that it belongs to."""

    @property
    def id(self) -> str:
        """That of the queue."""
        ...

    @property
    def method(self) -> str | None:
        """That of the request; None if there is none."""
        ...

    @property
    def path(self) -> str | None:
        """That of the request; None if there is none."""
        ...

    @property
    def outcome(self) -> ResponseOutcome | None:
        """How the response has ended; None if there is none."""
        ...


class _Nowhere:
    id = "0" * 32
    method = None
    path = None
    outcome = None


NOWHERE: Origin = _Nowhere()
"""The queue of a task that is in none."""


class Record:
    """What is known of the life of one task.

    Args:
        origin: its queue.
        added: when it was added; None if nobody knows.

    Attributes:
        attempt: which attempt to run it this is, from 1.
        started: when this attempt has begun; None if it has not, or nobody knows.
        ended: when the task has ended; None if it has not.
        outcome: how it has ended; None if it has not. Written once, by its `Batch`.
        reason: why it was discarded, replaced or abandoned.
        thread: the name of the thread in which it was called; None if it was not, or nobody knows.
        number: what nothing else in this process has, and what was made later has more.
    """

    __slots__ = (
        "_epoch",
        "_id",
        "added",
        "attempt",
        "ended",
        "number",
        "origin",
        "outcome",
        "reason",
        "started",
        "thread",
    )

    def __init__(self, origin: Origin, added: float | None) -> None:
        self.number = next(_numbers)
        self._id: str | None = None
        self._epoch: float | None = None
        self.origin = origin
        self.attempt = 1
        self.added = added
        self.started: float | None = None
        self.ended: float | None = None
        self.outcome: Outcome | None = None
        self.reason: str | None = None
        self.thread: str | None = None

    def begin_again(self) -> None:
        """The attempt has failed and there will be another, which has not begun."""
        self.attempt += 1
        self.started = self.thread = None

    @property
    def id(self) -> str:
        """That of the task, the same in all attempts; unique among all processes."""
        if self._id is None:
            self._id = id_of(self.number)
        return self._id

    def wall_clock(self, moment: float | None) -> float | None:
        """Return a time of `time.monotonic` as `time.time` tells it; None for None.

        All times of one task are told by the same difference, whatever becomes of the clock.
        """
        if moment is None:
            return None
        if self._epoch is None:
            self._epoch = time.time() - time.monotonic()
        return self._epoch + moment


class KnownRecord(Record):
    """That of a task that another process has added.

    Args:
        origin: its queue.
        added: as for `Record`.
        id: that which the task had there.
        attempt: the number of the attempt that comes next.
    """

    __slots__ = ()

    def __init__(self, origin: Origin, added: float | None, id: str, attempt: int) -> None:  # noqa: A002
        super().__init__(origin, added)
        self._id = id
        self.attempt = attempt


class Recorded:
    """What tells of one task to code of the application, out of what is known of it."""

    __slots__ = ("_record",)

    _record: Record

    @property
    def queue_id(self) -> str:
        """That of the queue in which it was added, which its response has alone."""
        return self._record.origin.id

    @property
    def method(self) -> str | None:
        """That of the request, such as ``"POST"``; None if there is none."""
        return self._record.origin.method

    @property
    def path(self) -> str | None:
        """That of the request, without its query; None if there is none."""
        return self._record.origin.path
