"""Sentry with a transport that writes what it would send as lines."""

from __future__ import annotations

import os
from typing import Any

import sentry_sdk
from sentry_sdk.transport import Transport

from tests.telemetry.lines import put


class Sink(Transport):
    """Writes each item of an envelope as a line."""

    def capture_envelope(self, envelope: Any) -> None:
        for item in envelope.items:
            content = item.payload.json
            if item.type == "event":
                _put_event(content)
            elif item.type == "transaction":
                _put_transaction(content)
            elif item.type == "span":
                for span in content["items"]:
                    _put_streamed(span)


def _put_event(event: Any) -> None:
    exceptions = (event.get("exception") or {}).get("values") or [{}]
    put(
        "event",
        name=event.get("transaction"),
        message=event.get("message") or (event.get("logentry") or {}).get("message"),
        level=event.get("level"),
        fingerprint=event.get("fingerprint"),
        exception=exceptions[-1].get("value"),
        mechanism=exceptions[-1].get("mechanism"),
        tags=event.get("tags") or {},
        context=event["contexts"].get("bgadapters"),
        user=(event.get("user") or {}).get("id"),
        url=(event.get("request") or {}).get("url"),
        crumbs=[c.get("message") for c in (event.get("breadcrumbs") or {}).get("values", [])],
        trace=event["contexts"]["trace"]["trace_id"],
        span=event["contexts"]["trace"]["span_id"],
        parent=event["contexts"]["trace"]["span_id"],
    )


def _put_transaction(transaction: Any) -> None:
    trace = transaction["contexts"]["trace"]
    put(
        "span",
        name=transaction["transaction"],
        source=transaction["transaction_info"]["source"],
        op=trace["op"],
        origin=trace["origin"],
        status=trace.get("status"),
        data=trace.get("data"),
        id=trace["span_id"],
        parent=trace.get("parent_span_id"),
        trace=trace["trace_id"],
        error=trace.get("status") not in {None, "ok"},
        tags=transaction.get("tags") or {},
        children=[span["op"] for span in transaction["spans"]],
    )


def _put_streamed(span: Any) -> None:
    attributes = {name: each["value"] for name, each in span["attributes"].items()}
    put(
        "span",
        name=span["name"],
        op=attributes.get("sentry.op"),
        origin=attributes.get("sentry.origin"),
        status=span["status"],
        data=attributes,
        id=span["span_id"],
        parent=span.get("parent_span_id"),
        trace=span["trace_id"],
        error=span["status"] != "ok",
    )


def start(*, with_ours: bool, **options: Any) -> None:
    """Set up Sentry; with our integration if asked for."""
    integrations: list[Any] = []
    if with_ours:
        from bgadapters.telemetry.sentry import BackgroundTasksIntegration

        integrations.append(BackgroundTasksIntegration())
    sentry_sdk.init(
        dsn="http://key@127.0.0.1:9/1",
        transport=Sink,
        integrations=integrations,
        traces_sample_rate=float(os.environ.get("SENTRY_TEST_RATE", "1")),
        default_integrations=True,
        **options,
    )
