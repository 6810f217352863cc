"""The backend for the backport of Django's tasks framework, django-tasks from 0.12 on.

::

    TASKS = {"default": {"BACKEND": "bgadapters.django.tasks_backport.PostResponseBackend"}}
"""

from bgadapters.adapters import explain_missing

try:
    from django_tasks import TaskContext, TaskResult, TaskResultStatus, exceptions
    from django_tasks.backends.base import BaseTaskBackend
    from django_tasks.base import TaskError
    from django_tasks.signals import task_enqueued, task_finished, task_started
    from django_tasks.utils import normalize_json
except ModuleNotFoundError as missing:
    explain_missing(
        missing,
        "django_tasks",
        "bgadapters.django.tasks_backport needs it: pip install 'django-tasks>=0.12'. Django 6 "
        "has a framework of its own, for which there is bgadapters.django.tasks.",
    )
    raise

from bgadapters.django.task_backend import PostResponse
from bgadapters.django.task_results import Framework

# Its name is about to become that of Django's.
_INVALID_TASK = getattr(exceptions, "InvalidTask", None) or exceptions.InvalidTaskError


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
        invalid_task=_INVALID_TASK,
        no_result=exceptions.TaskResultDoesNotExist,
    )
