"""What was seen of one host: exchanges, what happened to tasks, log lines, mail."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from examples.demo.plan import REQUESTS, WELCOME, Request


class DemoError(Exception):
    """Something that should have happened did not, so that there is no point in going on."""


@dataclass
class Exchange:
    """A request on the wire and its response; times are ``time.monotonic()`` unless noted."""

    request: Request
    sent: float = field(default_factory=time.monotonic)
    complete: float | None = None  # when the last byte of the response had been read
    arrived: float | None = None  # when it had come, ``time.time()``; None: the system cannot say
    status: int = 0

    def answered(self, at: float) -> bool:
        """Tell whether the response is complete, and was at the time ``at``, of ``time.time()``."""
        return self.complete is not None and (self.arrived is None or self.arrived <= at)


@dataclass(frozen=True)
class Note:
    """One thing that happened to a task, and what the client had received by then."""

    kind: str
    email: str
    task: str
    thread: str
    error: str
    at: float
    answered: bool  # the response to its request was complete
    next_answered: bool  # and so was the response to the request after that


@dataclass
class Record:
    """All that was seen of one host."""

    exchanges: list[Exchange] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    mailbox: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    only_mail_is_left: asyncio.Event = field(default_factory=asyncio.Event)
    all_ended: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, kind: str, email: str, task: str, thread: str, error: str, at: float) -> None:
        """Note what happened to a task, at the time ``at`` in its server, of ``time.time()``."""
        answered = [exchange.answered(at) for exchange in self.exchanges]
        emails = [exchange.request.email for exchange in self.exchanges]
        own = emails.index(email) if email in emails else len(emails)
        self.notes.append(
            Note(
                kind,
                email,
                task,
                thread,
                error,
                time.monotonic(),
                answered=any(answered[own : own + 1]),
                next_answered=any(answered[own + 1 : own + 2]),
            )
        )
        missing = {(request.email, task) for request in REQUESTS for task in request.tasks}
        missing -= {(note.email, note.task) for note in self.notes if note.kind != "started"}
        if not missing:
            self.all_ended.set()
        if all(task == WELCOME for _, task in missing):
            self.only_mail_is_left.set()
