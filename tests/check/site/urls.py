from django.http import HttpResponse
from django.urls import path

from bgadapters.django import HttpRequest, background_tasks


@background_tasks
def view(request: HttpRequest) -> HttpResponse:
    request.background_tasks.add_task(str)
    return HttpResponse("sound")


@background_tasks
async def async_view(request: HttpRequest) -> HttpResponse:
    request.background_tasks.add_task(str)
    return HttpResponse("sound")


def without(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no background tasks here")


urlpatterns = [path("", view), path("async", async_view), path("without", without)]
