"""Django REST framework and Django Ninja, which answer exceptions by themselves."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.http import Http404
from django.urls import include, path
from django.utils.decorators import method_decorator
from ninja import NinjaAPI
from ninja.errors import HttpError
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.response import Response as RestResponse
from rest_framework.views import APIView

from bgadapters import add_task
from bgadapters.django import background_tasks
from tests.django.serving import Log, Site
from tests.views import add_both


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("form", ["class", "method", "above", "below"])
def test_rest_framework(everywhere: Site, log: Log, form: str, fails: bool) -> None:
    """Its views answer exceptions by themselves, and mark what they answer with."""

    def respond(request: Any) -> RestResponse:
        add_both(request.background_tasks, log) if fails else request.background_tasks.add_task(
            log.append, "ran"
        )
        if fails:
            raise ValidationError("no")
        return RestResponse({"fine": True})

    class View(APIView):  # type: ignore[misc]
        def get(self, request: Any) -> RestResponse:
            return respond(request)

    if form == "class":
        view = method_decorator(background_tasks, name="dispatch")(View).as_view()
    elif form == "method":
        View.get = method_decorator(background_tasks)(View.get)  # type: ignore[method-assign]
        view = View.as_view()
    elif form == "above":
        view = background_tasks(api_view(["GET"])(respond))
    else:
        view = api_view(["GET"])(background_tasks(respond))
    reply = everywhere.serve(view).get()
    assert reply.status == (400 if fails else 200)
    assert log == (["always"] if fails else ["ran"])


@pytest.mark.parametrize("fails", [False, True])
def test_ninja(site: Site, log: Log, fails: bool) -> None:
    api = NinjaAPI(urls_namespace=f"ninja-{fails}")

    @api.get("/items/{number}")
    @background_tasks
    def operation(request: Any, number: int) -> dict[str, int]:
        add_both(request.background_tasks, log) if fails else add_task(log.append, number)
        if fails:
            raise Http404
        return {"number": number}

    site.serve()
    urlpatterns, _, namespace = api.urls
    from django.conf import settings
    from django.urls import include, path

    settings.ROOT_URLCONF.urlpatterns.append(path("api/", include((urlpatterns, namespace))))
    assert site.get("/api/items/3").status == (404 if fails else 200)
    assert log == (["always"] if fails else [3])


@pytest.mark.parametrize("operation_is", ["sync", "async"])
def test_ninja_operations_may_be_sync_and_async(
    handler: Site, log: Log, operation_is: str, request: pytest.FixtureRequest
) -> None:
    api = NinjaAPI(urls_namespace=request.node.name)

    def answer(number: int) -> dict[str, int]:
        add_task(log.append, number)
        if not number:
            raise HttpError(409, "none left")
        return {"number": number}

    @api.get("/sync/{number}")
    @background_tasks
    def operation(request: Any, number: int) -> dict[str, int]:
        return answer(number)

    @api.get("/async/{number}")
    @background_tasks
    async def async_operation(request: Any, number: int) -> dict[str, int]:
        return answer(number)

    handler.serve()
    urlpatterns, _, namespace = api.urls
    settings.ROOT_URLCONF.urlpatterns.append(path("api/", include((urlpatterns, namespace))))
    assert handler.get(f"/api/{operation_is}/3").body == b'{"number": 3}'
    assert handler.get(f"/api/{operation_is}/0").status == 409
    assert log == [3]
