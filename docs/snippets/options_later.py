from datetime import UTC, datetime, timedelta

from bgadapters import BackgroundTasks

from notifications import write_notification

soon = datetime.now(UTC) + timedelta(seconds=0.1)

with BackgroundTasks() as background_tasks:
    background_tasks.options(delay=0.1).add_task(write_notification, "ada@example.com", "delay")
    background_tasks.options(run_after=soon).add_task(write_notification, "ada@example.com", "time")
