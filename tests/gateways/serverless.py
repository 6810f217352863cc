"""Adapters of AWS Lambda, what it calls a handler with, and views with tasks of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from bgadapters import add_task
from bgadapters.adapters import current_queue
from tests.our_log import OurLog

VERSIONS = ("1.0", "2.0")
Handler = Callable[[Any, Any], Any]

log: list[str] = []
"""Which tasks have run."""


async def atask() -> None:
    """Note it, after a while."""
    await asyncio.sleep(0.001)
    log.append("async")


def add() -> None:
    """Add a plain task, an async one and one that runs always."""
    add_task(log.append, "plain")
    add_task(atask)
    current_queue().options(always=True).add_task(log.append, "always")


def fail_at_first() -> None:
    """Note the attempt; the first one fails."""
    log.append("attempt")
    if log.count("attempt") == 1:
        raise OSError


async def afail_at_first() -> None:
    """Do the same, on the loop."""
    await asyncio.sleep(0)
    log.append("async attempt")
    if log.count("async attempt") == 1:
        raise OSError


def add_for_later() -> None:
    """Add tasks that wait: for another attempt, for a time soon, and for one that is too late."""
    queue = current_queue()
    again = queue.options(retries=1, backoff=0.01)
    again.add_task(fail_at_first)
    again.add_task(afail_at_first)
    queue.options(delay=0.01).add_task(log.append, "soon")
    queue.options(delay=1e6, name="too late").add_task(log.append, "too late")


def check_waits(handler: Handler, our_log: OurLog) -> None:
    """What waits for a time within the drain timeout has run when the handler returns."""
    assert handler(event("2.0", "/later"), None)["statusCode"] == 200
    assert sorted(log) == ["async attempt"] * 2 + ["attempt"] * 2 + ["soon"]
    (said,) = [each for each in our_log.warnings if "does not wait for" in each]
    assert said.endswith("whose time does not come within the drain timeout of 30 s: too late")


def mangum(app: Any) -> Handler:
    """For ASGI."""
    made: Handler = pytest.importorskip("mangum").Mangum(app)
    return made


def apig_wsgi(app: Any) -> Handler:
    """For WSGI; it closes responses."""
    made: Handler = pytest.importorskip("apig_wsgi").make_lambda_handler(app)
    return made


def serverless_wsgi(app: Any) -> Handler:
    """For WSGI; it closes none."""
    module = pytest.importorskip("serverless_wsgi")
    return lambda event, context: module.handle_request(app, event, context)


WSGI_ADAPTERS: dict[str, Callable[[Any], Handler]] = {
    "apig-wsgi": apig_wsgi,
    "serverless-wsgi": serverless_wsgi,
}


def check_held(handler: Handler, version: str, our_log: OurLog) -> None:
    """The tasks of all views have run when their handler returns."""
    for path in ("/text", "/stream", "/nothing"):
        answer = handler(event(version, path), None)
        assert log == ["plain", "async", "always"], path
        assert answer["statusCode"] == (204 if path == "/nothing" else 200)
        assert answer.get("body", "").strip('"') == ("" if path == "/nothing" else "text")
        log.clear()
    assert our_log.messages == []
    assert handler(event(version, "/abort"), None)["statusCode"] == 404
    assert log == ["always"]
    log.clear()
    assert our_log.warnings[0].startswith("2 background task(s) discarded")


def event(version: str, path: str) -> dict[str, Any]:
    """Return the event of a GET request, in a version of API Gateway's payload format."""
    headers = {"host": "testserver", "accept": "*/*"}
    if version == "2.0":
        http = {"method": "GET", "path": path, "sourceIp": "127.0.0.1", "protocol": "HTTP/1.1"}
        return {
            "version": version,
            "rawPath": path,
            "rawQueryString": "",
            "headers": headers,
            "requestContext": {"http": http, "stage": "$default"},
            "isBase64Encoded": False,
        }
    return {
        "version": version,
        "resource": path,
        "path": path,
        "httpMethod": "GET",
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": None,
        "multiValueQueryStringParameters": None,
        "requestContext": {"identity": {"sourceIp": "127.0.0.1"}, "stage": "prod"},
        "body": None,
        "isBase64Encoded": False,
    }
