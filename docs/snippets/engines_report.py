from bgadapters import task_options

from notifications import write_notification


@task_options()
def make_report(email: str):
    write_notification(email, message="your report")
