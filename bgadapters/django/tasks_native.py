"""The class behind `bgadapters.django.tasks`, which needs Django 6."""

from bgadapters.adapters import explain_missing

try:
    from django.tasks import TaskContext, TaskResult, TaskResultStatus
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import TaskError
    from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
    from django.tasks.signals import task_enqueued, task_finished, task_started
    from django.utils.json import normalize_json
except ModuleNotFoundError as missing:
    explain_missing(
        missing,
        "django.tasks",
        "Django has its tasks framework from 6.0 on. In older versions install its backport, "
        "django-tasks, and use bgadapters.django.tasks_backport.PostResponseBackend.",
    )
    raise

from bgadapters.django.task_backend import PostResponse
from bgadapters.django.task_results import Framework


class PostResponseBackend(PostResponse, BaseTaskBackend):
    """Runs tasks after the response, in the process that served it."""

    framework = Framework(
        result=TaskResult,
        status=TaskResultStatus,
        error=TaskError,
        context=TaskContext,
        enqueued=task_enqueued,
        started=task_started,
        finished=task_finished,
        normalize_json=normalize_json,
        invalid_task=InvalidTask,
        no_result=TaskResultDoesNotExist,
    )
