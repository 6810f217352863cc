"""What is said of evidence that no server here can be brought to give."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bgadapters.__main__ import main
from bgadapters.check.evidence import Evidence
from bgadapters.check.findings import Finding, judge
from bgadapters.check.gateways import Answer, Request
from bgadapters.check.listener import Visit

ROOT = Path(__file__).parents[2]
SETTINGS = {"max_workers": 8, "drain_timeout": 30.0}
REPORTS: dict[str, dict[str, Any]] = {
    "opened": {
        "place": "wsgi",
        "settings": SETTINGS,
        "callers": [],
        "below": [],
        "patched_late": False,
        "threads_run": True,
        "ends_with_the_request": False,
        "missing": None,
    },
    "started": {"thread": "bgadapters-1"},
    "held": {"opened": True},
    "ended": {"opened": True},
    "async-started": {"thread": "bgadapters-loop"},
    "async-ended": {},
    "finished": {
        "sigterm": "",
        "sigterm_kills": False,
        "is_child": False,
        "refused_threads": False,
        "hears_shutdown": False,
    },
}


def visit(*, until: str = "finished", **changed: Any) -> Visit:
    """A visit that went well, but for the facts given, up to the report ``until``."""
    made = Visit()
    for what, facts in REPORTS.items():
        made.reports.append(
            {"what": what, **{name: changed.get(name, fact) for name, fact in facts.items()}}
        )
        if what == until:
            break
    return made


def evidence(*visits: Visit, **more: Any) -> Evidence:
    seen = Evidence("url", Request(), Answer(200), list(visits), next=Answer(200))
    return replace(seen, **more)


def failed(seen: Evidence) -> dict[str, Finding]:
    return {found.about: found for found in judge(seen) if found.verdict == "FAILED"}


def the(seen: Evidence, about: str) -> Finding:
    (finding,) = (found for found in judge(seen) if found.about == about)
    return finding


def test_what_a_server_says_cannot_forge_findings() -> None:
    answer = Answer(500, error="bad\nok      all is well\x1b[2J")
    finding = judge(evidence(answer=answer))[0]
    lines = f"{finding}".splitlines()
    assert "x1b" in lines[0]
    assert all(line.startswith("        ") for line in lines[1:])


def test_what_went_well_has_not_failed() -> None:
    assert failed(evidence(visit())) == {}


def test_threads_that_uwsgi_does_not_let_run() -> None:
    waited = evidence(visit(threads_run=False, until="started"), next=Answer(200))
    found = failed(replace(waited, gateway="wsgi"))
    assert "--enable-threads" in found["threads"].advice
    assert "--enable-threads" in found["client"].advice
    (only,) = failed(evidence(visit(threads_run=False, until="opened"))).values()
    assert "--enable-threads" in only.advice


def test_threads_that_the_system_refuses() -> None:
    found = failed(evidence(visit(thread="MainThread", opened=False, refused_threads=True)))
    assert "no worker thread can be started" in found["threads"].text
    assert found["client"].advice == "Tasks run in the thread that serves requests; see below."


def test_the_next_request_waited() -> None:
    seen = visit()
    seen.reports[3] = {"what": "ended", "opened": False}
    (only,) = failed(evidence(seen, next=Answer(200, seconds=1.25))).values()
    assert only.about == "next"
    assert "was answered only after 1.2 s" in only.text
    assert only.advice == "The server serves nothing else until a task has finished."
    seen.reports[1] = {"what": "started", "thread": "MainThread"}
    assert "in the thread that serves" in failed(evidence(seen))["next"].advice


def test_the_next_request_failed() -> None:
    found = failed(evidence(visit(), next=Answer(error="TimeoutError: timed out")))
    assert found["next"].text.endswith("TimeoutError: timed out")


def test_the_next_request_had_a_connection_of_its_own() -> None:
    kept = the(evidence(visit()), "next").text
    new = the(evidence(visit(), next=Answer(200, is_kept=False)), "next").text
    assert "on the same connection" in kept
    assert "on a connection of its own" in new


@pytest.mark.parametrize(
    ("until", "about"),
    [("started", "threads"), ("held", "threads"), ("ended", "async"), ("async-started", "async")],
)
def test_tasks_that_stand_still(until: str, about: str) -> None:
    assert about in failed(evidence(visit(until=until)))
    assert not [found for found in judge(evidence(visit(until=until))) if found.about == "sigterm"]


def test_tasks_in_another_order_or_twice() -> None:
    seen = visit()
    seen.reports.insert(3, seen.reports[1])
    assert "another order, or twice" in failed(evidence(seen))["once"].text


def test_a_call_that_never_returned() -> None:
    (only,) = failed(evidence(visit(place="asgi", until="opened"))).values()
    assert only.advice == "The application's call did not return."


def test_an_answer_that_broke_off_before_anything_ran() -> None:
    """That nothing was closed is no surprise then."""
    seen = evidence(visit(until="opened"), answer=Answer(error="TimeoutError: timed out"))
    assert list(failed(seen)) == ["queue"]


def test_gevent_before_anything_was_released() -> None:
    (only,) = failed(evidence(visit(patched_late=True, until="opened"))).values()
    assert "--preload" in only.advice


def test_gevent_after_that() -> None:
    assert "--preload" in failed(evidence(visit(patched_late=True)))["threads"].advice


def test_an_async_task_on_the_servers_loop() -> None:
    seen = evidence(visit(place="asgi", thread="MainThread"))
    assert the(seen, "async").text == "an async task ran, on the server's loop"


@pytest.mark.parametrize(
    ("changed", "verdict", "text"),
    [
        ({"sigterm": "gunicorn.handle_exit"}, "ok", "by gunicorn.handle_exit"),
        ({"sigterm": ""}, "ok", "by the server, outside Python"),
        ({"sigterm": "SIG_IGN"}, "note", "ignored"),
        ({"sigterm": "SIG_DFL", "is_child": True}, "note", "worker process"),
        ({"sigterm": "SIG_DFL"}, "FAILED", "nothing handles SIGTERM"),
        (
            {"sigterm": "uvicorn.exit", "sigterm_kills": True, "place": "django-asgi"},
            "FAILED",
            "as soon as it has stopped",
        ),
        (
            {"sigterm": "SIG_DFL", "sigterm_kills": True, "missing": "Add it."},
            "FAILED",
            "tasks that are left are lost",
        ),
    ],
)
def test_sigterm(changed: dict[str, Any], verdict: str, text: str) -> None:
    finding = the(evidence(visit(**changed)), "sigterm")
    assert finding.verdict == verdict
    assert text in finding.text


@pytest.mark.parametrize(
    ("place", "hears", "verdict", "text"),
    [
        ("asgi", True, "ok", "up to 30 s"),
        ("asgi", False, "note", "does not reach bgadapters"),
        ("fastapi", False, "note", "nothing waits for tasks"),
        ("django-asgi", False, "note", "Django does not speak the lifespan protocol"),
        ("example.shim", False, "note", "does not reach bgadapters"),
    ],
)
def test_lifespan(place: str, hears: bool, verdict: str, text: str) -> None:
    finding = the(evidence(visit(place=place, hears_shutdown=hears)), "shutdown")
    assert finding.verdict == verdict
    assert text in finding.text


def test_an_answer_that_broke_off() -> None:
    found = failed(evidence(visit(), answer=Answer(200, error="IncompleteRead")))
    assert "did not end well (answered 200; IncompleteRead)" in found["queue"].text


def test_a_line_of_output() -> None:
    finding = Finding("ok", "queue", "a text", "two lines\nof advice")
    assert str(finding) == "ok      a text\n        two lines\n        of advice"


def table_of_the_page(heading: str) -> set[str]:
    """The first cells of a table of docs/check.md."""
    page = (ROOT / "docs/check.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"^\| `([\w-]+)", section, re.MULTILINE))


def test_every_question_is_explained() -> None:
    """The table of the page has each question that findings answer, and no other."""
    source = (ROOT / "bgadapters/check/findings.py").read_text()
    asked = re.findall(r'Finding\(\s*"\w+",\s+"(\w+)"', source)
    assert table_of_the_page("The findings") == set(asked)


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    offered = re.findall(r"^  (--\w+)", capsys.readouterr().out, re.MULTILINE)
    assert table_of_the_page("Options") == set(offered)
