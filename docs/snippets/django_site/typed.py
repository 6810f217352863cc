from bgadapters.django import HttpRequest, background_tasks
from django.http import HttpResponse

from notifications import write_notification


@background_tasks
def send_notification(request: HttpRequest, email: str) -> HttpResponse:
    request.background_tasks.add_task(write_notification, email, message="typed")
    return HttpResponse(status=202)
