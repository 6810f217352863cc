from notifications import write_notification

try:
    # region: tasks
    from django.tasks import task
    # endregion
except ImportError:  # Django 5.2
    from django_tasks import task


# region: tasks
@task
def welcome(email):
    write_notification(email, message="welcome")


@task(priority=10)
def alert(email):
    write_notification(email, message="alert")


# endregion
