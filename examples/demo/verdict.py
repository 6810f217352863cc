"""What is wrong with what was seen of a host, in words."""

from __future__ import annotations

from collections.abc import Iterator

from examples.demo.plan import WELCOME, Request, logged
from examples.demo.record import Note, Record


def problems(record: Record) -> list[str]:
    """Say all that is wrong; nothing, if everything arrived as it must."""
    found = record.problems + [
        f"{exchange.request.target} was answered with {exchange.status}"
        for exchange in record.exchanges
        if exchange.complete is not None and exchange.status != 200
    ]
    sent = [exchange.request for exchange in record.exchanges]
    for request in sent:
        notes = [note for note in record.notes if note.email == request.email]
        found += _not_once(request, notes) or _out_of_order(request, notes)
        found += _waiting(request, notes)
    found += _held_up(record)
    found += _deliveries(record, sent)
    return found


def _not_once(request: Request, notes: list[Note]) -> list[str]:
    """Each task must start once and succeed once."""
    found = [
        f"{note.task} for {note.email}: {note.kind} {note.error}".rstrip()
        for note in notes
        if note.kind not in ("started", "succeeded")
    ]
    for task in dict.fromkeys([*request.tasks, *(note.task for note in notes)]):
        starts = sum(note.task == task and note.kind == "started" for note in notes)
        ends = sum(note.task == task and note.kind != "started" for note in notes)
        if starts == 0 and ends == 0:
            found.append(f"{task} for {request.email} did not run")
        elif task not in request.tasks:
            found.append(f"{task} for {request.email} ran, and nobody asked for it")
        elif starts > 1:
            found.append(f"{task} for {request.email} ran {starts} times")
        elif ends == 0:
            found.append(f"{task} for {request.email} started and did not finish")
    return found


def _out_of_order(request: Request, notes: list[Note]) -> list[str]:
    """The tasks of one response must run one at a time, in the order added."""
    expected = [(kind, task) for task in request.tasks for kind in ("started", "succeeded")]
    seen = [(note.kind, note.task) for note in notes]
    if seen == expected:
        return []
    order = ", ".join(f"{task} {kind}" for kind, task in seen)
    return [f"the tasks for {request.email} ran out of order: {order}"]


def _waiting(request: Request, notes: list[Note]) -> Iterator[str]:
    """Neither a response nor the request after it may wait for a task."""
    started = [note.task for note in notes if note.kind == "started" and not note.answered]
    ended = [note.task for note in notes if note.kind == "succeeded" and not note.answered]
    if started:
        yield f"before the response to {request.target} was complete, {_list(started)} started"
    if ended:
        yield f"the response to {request.target} was complete only after {_list(ended)} had ended"
    if any(n.kind == "succeeded" and n.task == WELCOME and not n.next_answered for n in notes):
        yield f"the request after {request.target} waited for {WELCOME}"


def _list(tasks: list[str]) -> str:
    return ", ".join(f"{task!r}" for task in tasks)


def _held_up(record: Record) -> list[str]:
    """The tasks of one response must not wait for those of another."""
    mailed = [i for i, n in enumerate(record.notes) if n.kind == "succeeded" and n.task == WELCOME]
    return [
        f"{note.task} for {note.email} waited for {WELCOME} of another response"
        for note in record.notes[min(mailed, default=len(record.notes)) :]
        if note.kind == "started" and note.email != record.notes[mailed[0]].email
    ]


def _deliveries(record: Record, sent: list[Request]) -> Iterator[str]:
    """The log file and the mailbox must hold what was asked for, once and in order."""
    known = []
    for request in sent:
        lines = [line for line in record.log if line.startswith(f"{request.email}:")]
        known += lines
        if lines != logged(request):
            yield f"the log file should have {logged(request)} and has {lines}"
    if unknown := [line for line in record.log if line not in known]:
        yield f"the log file has lines that nobody asked for: {unknown}"
    expected = [f"{request.email}: Welcome" for request in sent if WELCOME in request.tasks]
    if record.mailbox != expected:
        yield f"the mailbox should have {expected} and has {record.mailbox}"
