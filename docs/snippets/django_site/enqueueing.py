from datetime import timedelta

from bgadapters.django import background_tasks
from django.http import JsonResponse
from django.utils import timezone

from django_site.tasks import alert, welcome
from notifications import write_notification


# region: view
@background_tasks
def register(request, email):
    request.background_tasks.add_task(write_notification, email, message="registered")
    result = welcome.enqueue(email)
    alert.enqueue("ops@example.com")
    return JsonResponse({"result": result.id})


# endregion


# region: later
@background_tasks
def register_later(request, email):
    welcome.using(run_after=timezone.now() + timedelta(seconds=1)).enqueue(email)
    return JsonResponse({"message": "You will hear from us"})


# endregion


# region: result
def state(request, result_id):
    result = welcome.get_result(result_id)
    return JsonResponse({"status": result.status, "attempts": result.attempts})


# endregion


# region: add-task
@background_tasks
def register_by_add_task(request, email):
    request.background_tasks.add_task(welcome, email)
    return JsonResponse({"message": "Registered"})


# endregion
