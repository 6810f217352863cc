from bgadapters import TaskEvent

from notifications import write_notification


def report(event: TaskEvent) -> None:
    write_notification("ops@example.com", message=f"{event.task.name}: {event.exception}")
