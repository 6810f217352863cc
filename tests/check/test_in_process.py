"""``check module:app``: sound applications pass, broken ones are told apart."""

from __future__ import annotations

from typing import Any

import pytest

from bgadapters.check import evidence
from bgadapters.core.api import probe
from tests.check.conftest import Check

pytestmark = pytest.mark.slow  # each starts a process of its own

APPS = "tests.check.apps"
KEPT = ["queue ok", "release ok", "client ok", "next ok", "threads ok", "async ok", "once ok"]
HELD = ["queue ok", "release ok", "client note", "threads ok", "async ok", "once ok"]
SOUND = {
    "flask_app": [*KEPT, "sigterm note", "settings note"],
    "held_flask_app": [*HELD, "sigterm note", "settings note"],
    "held_fastapi_app": [*HELD, "shutdown ok", "sigterm note", "settings note"],
    "wsgi_app": [*KEPT, "sigterm note", "settings note"],
    "a2wsgi_app": [*KEPT, "shutdown note", "sigterm note", "settings note"],
    "configured_fastapi_app": [*KEPT, "shutdown ok", "sigterm note", "settings note"],
    "not_hidden": [*KEPT, "shutdown ok", "sigterm note", "settings note"],
    "asgi_app": [*KEPT, "shutdown ok", "sigterm note", "settings note"],
    "plain_asgi_function": [*KEPT, "shutdown ok", "sigterm note", "settings note"],
    "fastapi_app": [*KEPT, "shutdown note", "sigterm note", "settings note"],
    "without_lifespan": [*KEPT, "shutdown note", "sigterm note", "settings note"],
    "mounted": [*KEPT, "shutdown note", "sigterm note", "settings note"],
}
lost = pytest.mark.filterwarnings("ignore:.*never ran:ResourceWarning")


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_application_passes(
    check: Check, request: pytest.FixtureRequest, name: str
) -> None:
    if not name.startswith("held"):
        request.getfixturevalue("in_time")
    report = check(f"{APPS}:{name}()")
    assert report.code == 0
    assert report.about() == SOUND[name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "adapter"),
    [
        ("asgiref_app", "asgiref.wsgi.WsgiToAsgi"),
        ("starlette_app", "starlette.middleware.wsgi.WSGIMiddleware"),
        ("uvicorn_app", "uvicorn's own WSGI middleware"),
    ],
)
def test_an_adapter_that_never_closes_is_named(check_apart: Check, name: str, adapter: str) -> None:
    report = check_apart(f"{APPS}:{name}", "--factory", "--timeout", "1")
    assert report.code == 1
    assert report.failed == ["release"], report.findings
    assert f"{adapter} never calls close()" in report.the("release").text
    assert "a2wsgi.WSGIMiddleware" in report.the("release").advice


@lost
def test_a_middleware_that_never_closes_is_named(check: Check) -> None:
    report = check(f"{APPS}:never_closed()")
    assert report.code == 1
    assert report.failed == ["release"]
    assert "In between stand: tests.check.apps.NeverCloses.__call__" in report.the("release").advice


@pytest.mark.usefixtures("seen_in_time")
def test_a_middleware_that_closes_early(check: Check) -> None:
    report = check(f"{APPS}:closed_early()")
    assert report.code == 1
    assert report.failed == ["after"]
    assert "tests.check.apps.ClosesEarly.__call__" in report.the("after").advice


@pytest.mark.usefixtures("in_time")
def test_a_middleware_that_calls_its_application_twice(check: Check) -> None:
    report = check(f"{APPS}:called_twice()")
    assert report.code == 1
    assert report.failed[0] == "once"
    text = "called 2 times for one request"
    (finding,) = (f for f in report.findings if text in f.text)
    assert "tests.check.apps.CallsTwice.__call__" in finding.advice


@pytest.mark.slow
def test_a_middleware_that_keeps_the_response_back(check: Check) -> None:
    """The next request is not judged then: no task ran any more when it was sent."""
    report = check(f"{APPS}:buffered()")
    assert report.code == 1
    assert report.failed == ["after", "client"]
    assert "next" not in {f.about for f in report.findings}
    assert "tests.check.apps.ClosesInItsOwnTime.__call__" in report.the("client").advice


@pytest.mark.usefixtures("in_time")
def test_a_middleware_that_hides_exceptions_is_noted(check: Check) -> None:
    report = check(f"{APPS}:hidden()")
    assert report.code == 0
    assert report.the("discard").verdict == "note"
    assert "tests.check.apps.Hides" in report.the("discard").text


@pytest.mark.usefixtures("in_time")
def test_so_is_one_that_was_made_of_a_function(check: Check) -> None:
    report = check(f"{APPS}:hidden_by_a_function()")
    assert "starlette.middleware.base.BaseHTTPMiddleware" in report.the("discard").text


@pytest.mark.parametrize(
    ("app", "who"),
    [("inside", "tests.check.apps.Passes"), ("inside_of_hiding", "a BaseHTTPMiddleware")],
)
def test_middlewares_that_wait_for_tasks_are_noted(check: Check, app: str, who: str) -> None:
    report = check(f"{APPS}:{app}()")
    assert report.code == 0
    assert who in report.the("order").text
    assert "init_app(app) after" in report.the("order").advice


@pytest.mark.usefixtures("in_time")
def test_two_queues_are_noted(check: Check) -> None:
    report = check(f"{APPS}:two_queues()")
    (finding,) = (f for f in report.findings if f.verdict == "note" and f.about == "queue")
    assert "example.shim opened another queue" in finding.text


@pytest.mark.parametrize("target", [f"{APPS}:bare_wsgi", f"{APPS}:fastapi_app()"])
def test_no_queue(check: Check, target: str) -> None:
    """A path whose view uses no background tasks, or an application that does not at all."""
    report = check(target, "--path", "/headers" if "bare" in target else "without")
    assert report.code == 1
    assert report.about() == ["queue FAILED"]
    assert "--path" in report.the("queue").advice


@pytest.mark.parametrize("name", ["flask_app", "fastapi_app"])
def test_a_response_that_fails_shows_nothing(check: Check, name: str) -> None:
    report = check(f"{APPS}:{name}()", "--path", "/gone")
    assert report.failed == ["release"]
    assert "(answered 410)" in report.the("release").text
    assert "Name a path" in report.the("release").advice


@pytest.mark.parametrize("name", ["wsgi_app", "asgi_app"])
def test_an_application_that_raises(check: Check, name: str) -> None:
    report = check(f"{APPS}:{name}()", "--path", "/raises")
    assert report.failed == ["queue", "release"]
    assert "LookupError" in report.the("queue").text


@lost
@pytest.mark.parametrize("name", ["wsgi_app", "asgi_app"])
def test_a_response_without_end_is_given_up(check: Check, name: str) -> None:
    report = check(f"{APPS}:{name}()", "--path", "/endless", "--timeout", "0.3")
    assert report.failed[0] == "queue"
    assert "did not end in time" in report.the("queue").text


@pytest.mark.usefixtures("in_time")
def test_headers_and_method_are_sent(check: Check) -> None:
    arguments = ("--header", "X-Secret: a: b", "--header", "Content-Type:text/plain")
    assert check(f"{APPS}:wsgi_app()", "--path", "/headers?a=1", *arguments).code == 0
    assert check(f"{APPS}:flask_app()", "--path", "/post").failed == ["release"]
    assert check(f"{APPS}:flask_app()", "--path", "/post", "--method", "POST").code == 0


@pytest.mark.usefixtures("in_time")
@pytest.mark.parametrize("path", ["/file", "/unclosable", "/stream"])
def test_files_and_streams(check: Check, path: str) -> None:
    name = "flask_app" if path == "/stream" else "wsgi_app"
    assert check(f"{APPS}:{name}()", "--path", path).code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("in_time")
def test_settings_are_shown(check: Check) -> None:
    report = check(f"{APPS}:configured_fastapi_app()")
    assert "max_workers=3, max_pending=1000, on_full='run'" in report.the("settings").text
    report = check(f"{APPS}:without_drain()")
    assert "waits for no task" in report.the("shutdown").text


def test_a_backlog_that_is_full(check: Check) -> None:
    report = check(f"{APPS}:full()")
    assert "took no task" in report.findings[1].text
    assert report.code == 1


def test_a_backlog_that_holds_up_the_server(check: Check) -> None:
    report = check(f"{APPS}:saturated()")
    assert report.failed == ["client"]
    assert report.the("threads").text == "a plain task ran in a worker thread"


def test_an_application_that_does_not_start(check: Check) -> None:
    report = check(f"{APPS}:fails_to_start()")
    assert report.code == 1
    assert report.the("shutdown").text.endswith("lifespan.startup.failed; OSError: no database")


@lost
def test_a_task_that_would_block_the_check_is_not_started(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that gevent has patched late blocks its process, and that is this one."""
    monkeypatch.setattr(probe, "_is_patched_late", lambda _: True)
    report = check(f"{APPS}:flask_app()", "--timeout", "1")
    assert report.about() == ["queue ok", "threads FAILED", "settings note"]


def test_it_looks_twice_before_it_says_that_somebody_waited(
    check: Check, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is busy for half a second is no server that waits."""
    monkeypatch.setattr(probe, "HOLD", 0.0)  # at first no gate is opened in time
    look = evidence._look
    looks: list[bool] = []

    def look_and_count(*arguments: Any) -> evidence.Evidence:
        seen = look(*arguments)
        looks.append(seen.somebody_waited)
        monkeypatch.setattr(probe, "HOLD", 10.0)
        return seen

    monkeypatch.setattr(evidence, "_look", look_and_count)
    assert check(f"{APPS}:flask_app()").code == 0
    assert looks == [True, False]
