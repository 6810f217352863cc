from bgadapters import TaskEvent
from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor


def takes_long(event: TaskEvent) -> bool:
    return event.name.startswith("shop.reports.")


BackgroundTasksInstrumentor().instrument(new_trace=takes_long)
