from bgadapters import BackgroundTasks, TaskOptions, task_options

from notifications import write_notification

patient = TaskOptions(retries=5, backoff=0.01)


@task_options(retries=3)
def remind(email):
    write_notification(email, message="do not forget")


with BackgroundTasks() as background_tasks:  # or that of a view
    background_tasks.add_task(remind, "ada@example.com")
    background_tasks.options(patient, name="note").add_task(write_notification, "grace@example.com")
