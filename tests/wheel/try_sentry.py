"""The extra ``sentry`` alone: a task that fails is one event."""

from typing import Any

import sentry_sdk
from sentry_sdk.transport import Transport

import bgadapters
from bgadapters.telemetry.sentry import BackgroundTasksIntegration

events: list[Any] = []


class Sink(Transport):
    """Keeps what it is to send."""

    def capture_envelope(self, envelope: Any) -> None:
        events.extend(item.payload.json for item in envelope.items if item.type == "event")


sentry_sdk.init(
    dsn="http://key@127.0.0.1:9/1", transport=Sink, integrations=[BackgroundTasksIntegration()]
)
with bgadapters.BackgroundTasks() as tasks:
    tasks.add_task(divmod, 1, 0)
assert bgadapters.drain(10) == []
(event,) = events
assert event["exception"]["values"][-1]["mechanism"]["type"] == "bgadapters", event
