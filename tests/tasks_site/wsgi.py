"""The application and its views. A task waits for a file that the test makes."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.tasks_site.settings")

from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.utils import timezone

application = get_wsgi_application()
framework: Any = import_module(os.environ["TASKS_PACKAGE"])


def _wait_for(name: str) -> str:
    """Run until there is this file; write down that it was found."""
    deadline = time.monotonic() + 20
    while not Path(name).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    note(name, "found")
    return "found"


def _write(name: str, line: str) -> None:
    """Write a line."""
    note(name, line)


def note(name: str, line: str) -> None:
    """Append to the journal beside the file."""
    with Path(f"{name}.journal").open("a") as journal:
        journal.write(f"{line}\n")


wait_for: Any = framework.task(_wait_for)
write: Any = framework.task(_write)


def enqueue(request: HttpRequest) -> JsonResponse:
    """Enqueue tasks of every kind."""
    name = request.GET["name"]
    later = timezone.now() + timedelta(seconds=0.1)
    result = wait_for.enqueue(name)
    for kind, task in [
        ("low", write.using(priority=-1)),
        ("plain", write),
        ("high", write.using(priority=1)),
        ("later", write.using(run_after=later)),
    ]:
        task.enqueue(name, kind)
    return JsonResponse({"id": result.id, "status": str(result.status)})


def status(request: HttpRequest) -> JsonResponse:
    """The state of the first one."""
    result = wait_for.get_result(request.GET["id"])
    return JsonResponse({"status": str(result.status), "attempts": result.attempts})


urlpatterns = [path("enqueue", enqueue), path("status", status)]
