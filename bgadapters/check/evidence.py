"""One check, step by step, and what was seen of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal

from bgadapters.check.gateways import Answer, ASGIGateway, Gateway, LeaveItError, Request
from bgadapters.check.listener import Listener, Visit
from bgadapters.core.api.probe import HEADER, HOLD, NEXT_GATE, RESPONSE_GATE

_GLANCE = 0.2
"""Seconds for what has happened already to be reported, by a connection on this machine."""
_SHUTDOWN = 0.5
"""Seconds in which a shutdown ends that waits for no task. The one that runs takes twice that."""

_GATES = ("held", "ended")  # how the probe's task reports that it is past them


@dataclass
class Evidence:
    """What was seen."""

    gateway: Literal["wsgi", "asgi", "url"]
    request: Request
    answer: Answer
    visits: list[Visit] = field(default_factory=list[Visit])
    started_early: bool = False  # a task, before the response was complete
    next: Answer | None = None  # to a second request, while a task of the first was held
    shutdown_waited: bool = False  # for a task, when lifespan.shutdown came while it ran

    @property
    def somebody_waited(self) -> bool:
        """Whether a task was held at a gate for as long as it takes."""
        return any(visit.fact(gate, "opened") is False for visit in self.visits for gate in _GATES)


def examine(gateway: Gateway, request: Request, token: str, patience: float) -> Evidence:
    """Send a request whose tasks report; hold them, and see who waits for them.

    Args:
        gateway: how requests are sent.
        request: what to send. It is sent a few times.
        token: what the process checked has in ``BGADAPTERS_CHECK_TOKEN``.
        patience: seconds for what is expected to happen.
    """
    evidence = _look(gateway, request, token, patience)
    if evidence.somebody_waited:  # or this machine was busy for half a second: look again
        evidence = _look(gateway, request, token, patience)
    if isinstance(gateway, ASGIGateway) and evidence.next is not None:
        _shut_down(gateway, request, token, patience, evidence)
    return evidence


def _look(gateway: Gateway, request: Request, token: str, patience: float) -> Evidence:
    with Listener() as listener:
        early: list[bool] = []

        def watch() -> None:
            if listener.saw("opened", _GLANCE):
                early.append(listener.saw("started", _GLANCE))
                if any(visit.fact("opened", "patched_late") for visit in listener.visits()):
                    raise LeaveItError

        answer = gateway.send(request.with_header(HEADER, f"{token}:{listener.port}"), watch)
        listener.open(RESPONSE_GATE)  # one that was passed before now was not waited at
        evidence = Evidence(gateway.name, request, answer, started_early=any(early))
        if listener.saw("opened", HOLD) and listener.saw("started", patience):
            evidence.next = gateway.send(request)
            listener.open(NEXT_GATE)
            listener.finished(patience)
        evidence.visits = listener.visits()
    return evidence


def _shut_down(
    gateway: ASGIGateway, request: Request, token: str, patience: float, evidence: Evidence
) -> None:
    """Ask the application to shut down while a task runs, as some servers do, and see who waits."""
    with Listener() as listener:
        gateway.send(request.with_header(HEADER, f"{token}:{listener.port}"))
        listener.saw("started", patience)
        shutdown = gateway.begin_shutdown()
        with suppress(TimeoutError):
            shutdown.result(_SHUTDOWN)
        waits = not shutdown.done() or listener.saw("finished", _GLANCE)  # the response may be held
        listener.open(RESPONSE_GATE + NEXT_GATE)
        shutdown.result()
        evidence.shutdown_waited = waits and listener.saw("finished", _GLANCE)
        listener.finished(patience)
