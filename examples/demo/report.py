"""The timeline of one host, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from examples.demo.record import Exchange, Record

_BAR = 20  # characters for the longest time
HEADER = (
    "Times are in ms since a request was sent, as seen by the client that sent it.\n"
    f"{'':73}{'from':>6}{'to':>6}"
)


def report(record: Record) -> str:
    """Return the timeline: responses, tasks and what they left behind."""
    rows = [row for index in range(len(record.exchanges)) for row in _rows(record, index)]
    longest = max((end for *_, end in rows), default=0) or 1
    lines = []
    for label, who, start, end in rows:
        first = int(start / longest * (_BAR - 1))
        bar = " " * first + "#" * (int(end / longest * (_BAR - 1)) - first + 1)
        lines.append(f"  {label:<57}{who:<14}{start:6.0f}{end:6.0f}  {bar}")
    lines += [f"  {name:<10}{text}" for name, text in _left_behind(record)]
    return "\n".join(lines)


_Row = tuple[str, str, float, float]


def _rows(record: Record, index: int) -> Iterator[_Row]:
    """One row for the response, one for the request after it, one for each task."""
    exchange = record.exchanges[index]
    if exchange.complete is None:
        return
    label = f"POST {exchange.request.target}: {exchange.status}, complete"
    yield label, "client", 0, _ms(exchange, exchange.complete)
    for later in record.exchanges[index + 1 : index + 2]:
        if later.complete is not None:
            label = f"  next request on the same connection: {later.status}, complete"
            yield label, "client", _ms(exchange, later.sent), _ms(exchange, later.complete)
    yield from _task_rows(record, exchange)


def _task_rows(record: Record, exchange: Exchange) -> Iterator[_Row]:
    started: dict[str, float] = {}
    for note in record.notes:
        if note.email != exchange.request.email:
            continue
        at = _ms(exchange, note.at)
        if note.kind == "started":
            started[note.task] = at
        else:
            outcome = "" if note.kind == "succeeded" else f" {note.kind.upper()}"
            yield f"  {note.task}{outcome}", note.thread, started.pop(note.task, at), at


def _ms(exchange: Exchange, at: float) -> float:
    return (at - exchange.sent) * 1000


def _left_behind(record: Record) -> Iterator[tuple[str, str]]:
    for name, contents in (("log file", record.log), ("mailbox", record.mailbox)):
        for index, text in enumerate(contents or ["(empty)"]):
            yield "" if index else name, text
