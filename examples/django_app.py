"""Django, a project in one file. Run it from the root of the repository with one command.

    gunicorn --threads 4 examples.django_app:application

and try it with

    curl -X POST http://127.0.0.1:8000/send-notification/ada@example.org

``examples/notifications.py`` says where the notification and the mail go.
"""

import os

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from bgadapters.django import HttpRequest, background_tasks
from examples.notifications import send_welcome, write_notification

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    # With it SIGTERM has tasks finish on servers that have no handler of their own, and the
    # settings below are checked at start-up.
    INSTALLED_APPS=["bgadapters.django"],
    # Optional. This setting names a function that hears of every task; nothing is called
    # where the variable is not set.
    BACKGROUND_TASKS={"ON_EVENT": os.environ.get("ON_TASK_EVENT")},
)


@require_POST
@background_tasks
def send_notification(request: HttpRequest, email: str) -> JsonResponse:
    """Answer at once; write the notification after the response."""
    request.background_tasks.add_task(write_notification, email, message="some notification")
    return JsonResponse({"message": "Notification sent in the background"})


@require_POST
@background_tasks
def sign_up(request: HttpRequest, email: str) -> JsonResponse:
    """Answer at once; three tasks run after the response, in the order added."""
    request.background_tasks.add_task(write_notification, email, message="signed up")
    request.background_tasks.add_task(write_notification, email, message="welcome is on its way")
    request.background_tasks.add_task(send_welcome, email)
    return JsonResponse({"message": "Signed up"})


urlpatterns = [
    path("send-notification/<str:email>", send_notification),
    path("sign-up/<str:email>", sign_up),
]

application = get_wsgi_application()
