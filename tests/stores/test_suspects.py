"""What ran when a process ended is tried one by one."""

from __future__ import annotations

from bgadapters.core.outbox.recovery import queues_of
from bgadapters.stores import Row


def row(name: str, crashes: int = 0) -> Row:
    """A task; the first letter of its name is its queue."""
    return Row(name, name[0], int(name[1]), 0.0, "{}", name, crashes=crashes)


def ids(rows: list[Row]) -> list[list[str]]:
    return [[each.id for each in queue] for queue in queues_of(rows)]


def test_each_response_is_a_queue() -> None:
    assert ids([row("a0"), row("a1"), row("b0")]) == [["a0", "a1"], ["b0"]]
    assert ids([]) == []


def test_responses_that_were_met_by_a_crash_are_one_queue_in_their_order() -> None:
    rows = [row("a0"), row("b0", 1), row("b1"), row("c0"), row("d0", 2)]
    assert ids(rows) == [["b0", "b1", "d0"], ["a0"], ["c0"]]
