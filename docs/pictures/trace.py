"""Draws trace.svg: the trace of one request with three tasks, made of the spans of a real run.

A Flask application answers a client over a connection, and OpenTelemetry's SDK records::

    PYTHONPATH=. python docs/pictures/trace.py
"""

import asyncio
import sys
import threading
import time
import urllib.request
from pathlib import Path
from xml.sax.saxutils import escape

from flask import Flask
from opentelemetry import trace
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from werkzeug.serving import make_server

from bgadapters.flask import BackgroundTasks
from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor

OUT = Path(__file__).with_suffix(".svg")

# What is traced.

provider = TracerProvider()
tracer = provider.get_tracer("shop")
app = Flask("shop")
background_tasks = BackgroundTasks(app)


def call(name):
    """A span around a call of another service."""
    return tracer.start_as_current_span(name, kind=SpanKind.CLIENT)


@app.post("/orders")
def order():
    with call("INSERT orders"):
        time.sleep(0.018)
    background_tasks.add_task(send_receipt)
    background_tasks.add_task(update_search)
    background_tasks.add_task(tell_warehouse)
    return "ordered"


def send_receipt():
    time.sleep(0.012)
    with call("SMTP mail.example"):
        time.sleep(0.045)


async def update_search():
    with call("PUT search.example"):
        await asyncio.sleep(0.03)


def tell_warehouse():
    with call("POST warehouse.example"):
        time.sleep(0.025)
        raise TimeoutError("no answer")


def record():
    """Make the request; return its spans, and when the client had the response, in ns.

    It is the second one: the first has started threads, and an event loop.
    """
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    FlaskInstrumentor().instrument_app(app, tracer_provider=provider)
    BackgroundTasksInstrumentor().instrument(tracer_provider=provider)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        for _ in range(2):
            exporter.clear()
            url = f"http://127.0.0.1:{server.port}/orders"
            with urllib.request.urlopen(url, data=b"") as response:
                assert response.read() == b"ordered"
            answered = time.time_ns()
            assert app.extensions["bgadapters"].drain(10) == []
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        BackgroundTasksInstrumentor().uninstrument()
    return exporter.get_finished_spans(), answered


# How it is drawn.

WIDTH, LEFT, RIGHT, TOP, ROW, BAR = 820, 290, 40, 66, 30, 16

STYLE = """
  .card { fill: #ffffff; stroke: #d0d7de }
  text { fill: #1f2328; font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace }
  .quiet { fill: #59636e }
  .line { stroke: #d0d7de }
  .answered { stroke: #1a7f37; stroke-dasharray: 4 3 }
  .said { fill: #1a7f37 }
  .request { fill: #0969da }
  .task { fill: #8250df }
  .call { fill: #afb8c1 }
  .failed, .why { fill: #cf222e }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d }
    text { fill: #f0f6fc }
    .quiet { fill: #9198a1 }
    .line { stroke: #3d444d }
    .answered { stroke: #3fb950 }
    .said { fill: #3fb950 }
    .request { fill: #4493f8 }
    .task { fill: #ab7df8 }
    .call { fill: #656c76 }
    .failed, .why { fill: #f85149 }
  }
"""


def in_order(spans):
    """Yield each span with its depth in the tree: parents first, then in the order of starts."""

    def below(parent, depth):
        for span in sorted(spans, key=lambda span: span.start_time):
            if (span.parent and span.parent.span_id) == parent:
                yield span, depth
                yield from below(span.context.span_id, depth + 1)

    return below(None, 0)


def kind_of(span):
    if span.status.status_code is StatusCode.ERROR:
        return "failed"
    return {SpanKind.SERVER: "request", SpanKind.INTERNAL: "task"}.get(span.kind, "call")


def name_of(span):
    return span.name.replace(f"{__name__}.", "")


def text(x, y, content, kind="", anchor="start"):
    at = f'x="{x:.1f}" y="{y}" class="{kind}" text-anchor="{anchor}"'
    return f"<text {at}>{escape(content)}</text>"


def bar(left, right, y, kind):
    size = f'width="{max(2, right - left):.1f}" height="{BAR}" rx="3"'
    return f'<rect x="{left:.1f}" y="{y}" {size} class="{kind}"/>'


def upright(x, top, bottom, kind):
    return f'<path d="M{x:.1f} {top}V{bottom}" class="{kind}"/>'


def draw(spans, answered):
    """Return the picture as SVG."""
    rows = list(in_order(spans))
    begin = min(span.start_time for span in spans)
    end = max(span.end_time for span in spans)
    bottom = TOP + ROW * len(rows) + 6
    height = bottom + 34

    def x(moment):
        return LEFT + (moment - begin) / (end - begin) * (WIDTH - LEFT - RIGHT)

    parts = [text(20, 28, f"trace {trace.format_trace_id(spans[0].context.trace_id)}")]
    for ms in range(0, int((end - begin) / 1e6) + 1, 20):
        at = x(begin + ms * 1e6)
        parts.append(upright(at, TOP - 6, bottom, "line"))
        parts.append(text(at, bottom + 18, f"{ms} ms", "quiet", "middle"))
    parts.append(upright(x(answered), TOP - 14, bottom, "answered"))
    parts.append(text(x(answered) + 6, TOP - 8, "the client has its response", "said"))
    for row, (span, depth) in enumerate(rows):
        y = TOP + ROW * row
        line = y + BAR - 3
        left, right = x(span.start_time), x(span.end_time)
        tone = "quiet" if span.kind is SpanKind.CLIENT else ""
        took = (span.end_time - span.start_time) / 1e6
        parts.append(text(20 + 16 * depth, line, name_of(span), tone))
        parts.append(text(LEFT - 16, line, f"{took:.0f} ms", "quiet", "end"))
        parts.append(bar(left, right, y, kind_of(span)))
        error = (span.attributes or {}).get("error.type")
        if error:
            parts.append(text(left - 8, line, error, "why", "end"))
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    card = f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8" class="card"/>'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
            "<title>A request and its three tasks, which run after the response</title>",
            f"<style>{STYLE}</style>",
            card,
            *parts,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    (Path(sys.argv[1]) if sys.argv[1:] else OUT).write_text(draw(*record()))
