"""Uploaded files are closed when tasks run, and the error of a task that reads one says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.http import HttpResponse
from django.test import Client

import bgadapters
from bgadapters.django import HttpRequest, background_tasks
from tests.django.serving import Site
from tests.our_log import OurLog

SAID = "Django closes uploaded files"


def read(file: Any) -> None:
    file.read()


def open_again(file: Any) -> None:
    file.open()


def open_by_path(file: Any) -> None:
    with open(file.temporary_file_path()):
        pass


async def aread(file: Any) -> None:
    file.read()


def fail(_: Any) -> None:
    raise ValueError("of something else")


def miss(_: Any) -> None:
    with open("nowhere"):
        pass


def divide(_: Any) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("kind", ["Memory", "Temporary"])
@pytest.mark.parametrize("task", [read, aread, open_again, open_by_path, fail, miss, divide])
def test_what_is_said_of_a_file_that_is_closed(
    site: Site, our_log: OurLog, kind: str, task: Callable[[Any], Any]
) -> None:
    if task is open_by_path and kind == "Memory":
        pytest.skip("it has no path")

    @background_tasks
    def view(request: HttpRequest) -> HttpResponse:
        request.background_tasks.add_task(task, request.FILES["file"])
        return HttpResponse()

    handler = f"django.core.files.uploadhandler.{kind}FileUploadHandler"
    site.serve(view, FILE_UPLOAD_HANDLERS=[handler])
    file = SimpleUploadedFile("some.txt", b"content")
    assert Client().post("/", {"file": file}).status_code == 200
    bgadapters.drain()
    (record,) = our_log.records
    assert record.exc_info is not None
    notes = getattr(record.exc_info[1], "__notes__", [])
    assert (SAID in "".join(notes)) is (task not in (fail, miss, divide))
