"""Tasks that say in a span of their own whose they are; all spans go to the file ``SPANS``."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

_tracer = trace.get_tracer("tests")


def export() -> None:
    """Have the global provider write each span that ends, as a line of JSON."""
    file = open(os.environ["SPANS"], "a", buffering=1)  # noqa: SIM115  until the process ends
    provider = TracerProvider()
    exporter = ConsoleSpanExporter(out=file, formatter=_line)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)


def _line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


def work(who: str) -> None:
    with _tracer.start_as_current_span("inside", attributes={"who": who}):
        time.sleep(0.02)


async def awork(who: str) -> None:
    with _tracer.start_as_current_span("inside", attributes={"who": who}):
        await asyncio.sleep(0.02)


def boom(who: str) -> None:
    work(who)
    raise ValueError("boom")


def hang(who: str) -> None:
    with _tracer.start_as_current_span("hanging", attributes={"who": who}):
        pass
    time.sleep(60)


def add_all(add_task: Callable[..., Any], who: str) -> None:
    """What each view does; one whose name begins with ``fail`` raises, as the view of that."""
    if who.startswith("hang"):
        add_task(hang, who)
        return
    add_task(work, who)
    add_task(awork, who)
    add_task(boom, who)
    if who.startswith("fail"):
        raise LookupError(who)
