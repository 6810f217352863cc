"""The extra ``django`` alone: the decorator serves a request."""

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

settings.configure(ALLOWED_HOSTS=["*"], INSTALLED_APPS=["bgadapters.django"], ROOT_URLCONF=__name__)
django.setup()

import bgadapters  # noqa: E402
from bgadapters.django import background_tasks  # noqa: E402

ran: list[str] = []


@background_tasks
def view(request: HttpRequest, email: str) -> HttpResponse:
    bgadapters.add_task(ran.append, email)
    return HttpResponse("sent")


urlpatterns = [path("<str:email>", view)]
assert Client().post("/a@b.example").content == b"sent"
assert bgadapters.drain(10) == []
assert ran == ["a@b.example"], ran
