"""Its views."""

from __future__ import annotations

import os
from typing import Any

from django.db import connection, transaction
from django.http import HttpResponse
from django.urls import path

from tests.engines.procrastinate_site.work import wait, work

HOW: dict[str, dict[str, Any]] = {
    "after": {},
    "before": {"send": "before_response"},
    "durable": {"durable": True},
    "transaction": {"send": "in_transaction"},
}


def task(request: Any) -> HttpResponse:
    """Add a task in the way that is asked for; answer which process this is."""
    query = request.GET
    name, tasks = (
        query["name"],
        request.background_tasks.options(engine="jobs", **HOW[query["how"]]),
    )
    if query["how"] == "transaction":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (%s)", [name])
            tasks.add_task(work, name)
            if "rollback" in query:
                transaction.set_rollback(True)
    elif "gate" in query:
        tasks.add_task(wait, name, query["gate"])
    else:
        tasks.add_task(work, name)
    return HttpResponse(str(os.getpid()))


def without_transaction(request: Any) -> HttpResponse:
    """Add a task for a transaction that nobody has begun; answer what is said."""
    tasks = request.background_tasks.options(engine="jobs", send="in_transaction")
    try:
        tasks.add_task(work, "never")
    except TypeError as exc:
        return HttpResponse(str(exc))
    return HttpResponse("it was taken")


def twice(request: Any) -> HttpResponse:
    """Add a task whose key is taken; the transaction goes on."""
    tasks = request.background_tasks.options(
        engine="jobs", send="in_transaction", key="one", on_duplicate="keep"
    )
    with transaction.atomic():
        tasks.add_task(work, "twice")
        tasks.add_task(work, "twice")
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO orders VALUES ('twice')")
    return HttpResponse()


def empty(request: Any) -> HttpResponse:
    return HttpResponse()


urlpatterns = [
    path("task", task),
    path("without-transaction", without_transaction),
    path("twice", twice),
    path("is-it-up", empty),
]
