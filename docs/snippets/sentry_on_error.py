import sentry_sdk
from bgadapters import TaskEvent


def on_error(event: TaskEvent) -> None:
    sentry_sdk.set_tag("team", "mail")
