from bgadapters import TaskEvent

from notifications import write_notification


def report(event: TaskEvent) -> None:
    what = event.exception or event.reason  # it has failed, or it was abandoned
    write_notification("ops@example.com", message=f"{event.name}: {what}")
