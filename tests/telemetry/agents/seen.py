"""What an agent has sent about a task, from the lines of its sink."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import NamedTuple

from tests.telemetry.lines import Line, Lines

_REQUEST = r"/ours/|/own/|^WebTransaction/|^ours$"
"""How agents name the request: by its route, or by its view."""


class Seen(NamedTuple):
    """What an agent shows of tasks.

    Attributes:
        span: the name of what it shows of a task; None if nothing is.
        trace: ``"request"`` if that belongs to the trace of its request, else ``"own"``.
        failure: where one that fails is seen: ``"span"``, ``"event"``, both; None if nowhere.
    """

    span: str | None
    trace: str | None
    failure: str | None

    def __str__(self) -> str:
        if self.span is None:
            return "nothing" if self.failure is None else f"a failure: {self.failure}"
        where = "in the trace of the request" if self.trace == "request" else "in its own trace"
        return f"`{self.span}`, {where}; a failure: {self.failure}"


def seen(lines: Lines, audit: Path, work: str, boom: str) -> Seen:
    """Tell what was sent about two functions, of which the second one fails."""
    spans = lines.all("span") + _of_new_relic(audit)
    shown = _that_names(spans, work)
    failed = _that_names(spans, boom)
    events = lines.all("event")
    has_event = any(re.search(rf"(?<!\w){boom}$", str(line["exception"])) for line in events)
    where = [
        *(["span"] if any(span["error"] for span in failed) else []),
        *(["event"] if has_event else []),
    ]
    return Seen(
        " + ".join(sorted(_bare(span["name"], work) for span in shown)) or None,
        _trace_of(shown[0], spans) if shown else None,
        ", ".join(where) or None,
    )


def _that_names(spans: list[Line], function: str) -> list[Line]:
    return [span for span in spans if re.search(rf"(?<!\w){function}$", span["name"])]


def _bare(name: str, function: str) -> str:
    """The name with FUNCTION in the place of the function's, once."""
    bare = re.sub(rf"(tests\.telemetry\.agents\.work[.:])?\b{function}\b", "FUNCTION", name)
    return bare.replace("FUNCTION FUNCTION", "FUNCTION")


def _trace_of(shown: Line, spans: list[Line]) -> str:
    trace = [span for span in spans if span["trace"] == shown["trace"] and span is not shown]
    if not any(re.search(_REQUEST, span["name"]) for span in trace):
        return "own"
    assert shown["parent"] in {span["id"] for span in trace}, "its parent was not sent"
    return "request"


def _of_new_relic(audit: Path) -> list[Line]:
    """The transactions in the audit log of New Relic's agent, as spans."""
    found: list[Line] = []
    if not audit.exists():
        return found
    for record in audit.read_text().split("=" * 78):
        if re.search(r"'method': 'analytic_event_data'", record):
            *_, events = ast.literal_eval(record.partition("DATA: ")[2].strip())
            found += [
                {
                    "name": event["name"],
                    "id": event["guid"],
                    "parent": event.get("parentId"),
                    "trace": event["traceId"],
                    "error": bool(event.get("error")),
                }
                for event, *_ in events
            ]
    return found
