"""Elastic's own way to have what it sends go elsewhere: the setting TRANSPORT_CLASS."""

from __future__ import annotations

from typing import Any

from elasticapm.transport.base import (  # pyright: ignore[reportMissingImports]
    Transport as Base,
)

from tests.telemetry.lines import put


class Transport(Base):  # type: ignore[misc]
    """Writes transactions, spans and errors as lines."""

    def queue(self, event_type: str, data: Any, flush: bool = False) -> None:
        if event_type == "error":
            put("event", exception=data["exception"]["message"], trace=data["trace_id"])
        elif event_type in {"transaction", "span"}:
            put(
                "span",
                name=data["name"],
                id=data["id"],
                parent=data.get("parent_id"),
                trace=data["trace_id"],
                error=data.get("outcome") == "failure",
            )

    def start_thread(self, pid: int | None = None) -> None:
        """Nothing is sent, so no thread sends it."""

    def close(self) -> None:
        """Nothing is open."""
