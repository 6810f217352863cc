"""Django, with tasks that run where ``ENGINE`` says. Run it from the root of the repository.

    gunicorn --threads 4 examples.engines.django_app:application

and, if ``ENGINE`` is huey or celery, a worker beside it:

    huey_consumer examples.engines.django_app.huey
    celery -A examples.engines.django_app:celery_app worker
"""

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from bgadapters.django import HttpRequest, background_tasks
from examples.engines import where
from examples.engines.work import note, render_thumbnail, send_mail

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["bgadapters.django"],
    BACKGROUND_TASKS={"ENGINES": where.engines, "DEFAULTS": {"engine": where.ENGINE}},
)

huey, celery_app = (getattr(where, name, None) for name in ("huey", "celery_app"))


@require_POST
@background_tasks
def order(request: HttpRequest, email: str) -> JsonResponse:
    """Answer at once; the mail and the thumbnail come after the response."""
    note("view", "begins")
    request.background_tasks.add_task(send_mail, email)
    request.background_tasks.add_task(render_thumbnail, email)
    return JsonResponse({"message": "Ordered"})


urlpatterns = [path("orders/<str:email>", order)]

application = get_wsgi_application()
