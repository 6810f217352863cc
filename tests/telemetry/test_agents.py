"""What the agents of others show of FastAPI's own tasks, and of ours: docs/agents.md."""

from __future__ import annotations

import importlib.util
import urllib.request
from pathlib import Path

import pytest

from tests.running import running
from tests.telemetry.agents.seen import Seen, seen
from tests.telemetry.lines import Lines

ROOT = Path(__file__).parents[2]
NEEDS = {
    "fastapi": "fastapi.telemetry",
    "otel_contrib": "opentelemetry.instrumentation.flask",
    "sentry": "sentry_sdk",
    "datadog": "ddtrace",
    "newrelic": "newrelic",
    "elastic": "elasticapm",
}
SERVERS = {
    "uvicorn": (
        *("{bin}/python", "-m", "uvicorn", "tests.telemetry.agents.fastapi_app:app"),
        *("--port", "{port}", "--log-level", "warning"),
    ),
    "gthread": (
        *("{bin}/python", "-m", "gunicorn", "tests.telemetry.agents.flask_app:app"),
        *("--bind", "127.0.0.1:{port}", "--threads", "4", "--log-level", "warning"),
    ),
}


def is_here(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def watched(directory: Path, agent: str, server: str, *, with_ours: bool) -> dict[str, Seen]:
    """Serve tasks under an agent; tell what it has sent of FastAPI's own and of ours."""
    lines, audit = Lines(directory), directory / "audit.log"
    environ = {
        **lines.environ,
        "AGENT": agent,
        "AGENT_AUDIT": str(audit),
        "AGENT_WITH": "1" if with_ours else "",
        "PYTHONPATH": str(ROOT),
    }
    tasks = {"ours": ("work", "awork", "boom")}
    if server == "uvicorn":
        tasks["own"] = ("own_work", "own_awork", "own_boom")
    with running(directory, *SERVERS[server], **environ) as served:
        for whose, names in tasks.items():
            for name in names:
                with urllib.request.urlopen(f"{served.url}/{whose}/{name}", timeout=20) as answer:
                    answer.read()
                lines.wait_for("ran", who=name)
    found: dict[str, Seen] = {}
    for whose, (work, awork, boom) in tasks.items():
        found[whose] = seen(lines, audit, work, boom)
        assert found[whose] == seen(lines, audit, awork, boom), "async ones look the same"
    return found


NATIVE = Seen("fastapi.background_task FUNCTION", "request", "span")
NOTHING = Seen(None, None, None)
FAILURES = Seen(None, None, "event")

# By agent and server: FastAPI's own tasks, ours as they are, ours with the line to add.
TABLE: dict[tuple[str, str], tuple[Seen | None, Seen, Seen]] = {
    ("fastapi", "uvicorn"): (NATIVE, NATIVE, NATIVE),
    ("fastapi", "gthread"): (None, NOTHING, NOTHING),
    ("otel_contrib", "uvicorn"): (
        Seen("BackgroundTask FUNCTION", "request", "span"),
        NOTHING,
        Seen("run FUNCTION", "request", "span"),
    ),
    ("otel_contrib", "gthread"): (None, NOTHING, Seen("run FUNCTION", "request", "span")),
    ("sentry", "uvicorn"): (FAILURES, FAILURES, Seen("FUNCTION", "request", "span, event")),
    ("sentry", "gthread"): (None, FAILURES, Seen("FUNCTION", "request", "span, event")),
    ("datadog", "uvicorn"): (
        Seen("fastapi.background_task FUNCTION", "own", "span"),
        NOTHING,
        Seen("bgadapters.task FUNCTION", "request", "span"),
    ),
    ("datadog", "gthread"): (None, NOTHING, Seen("bgadapters.task FUNCTION", "request", "span")),
    ("newrelic", "uvicorn"): (
        Seen("OtherTransaction/Function/FUNCTION", "own", "span"),
        NOTHING,
        Seen("OtherTransaction/bgadapters/FUNCTION", "request", "span"),
    ),
    ("newrelic", "gthread"): (
        None,
        NOTHING,
        Seen("OtherTransaction/bgadapters/FUNCTION", "request", "span"),
    ),
    ("elastic", "uvicorn"): (FAILURES, NOTHING, Seen("FUNCTION", "request", "span, event")),
    ("elastic", "gthread"): (None, NOTHING, Seen("FUNCTION", "request", "span, event")),
}
NAMES = {
    "fastapi": "FastAPI's telemetry",
    "otel_contrib": "OpenTelemetry",
    "sentry": "Sentry",
    "datadog": "Datadog",
    "newrelic": "New Relic",
    "elastic": "Elastic APM",
}


@pytest.mark.host
@pytest.mark.parametrize("with_ours", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("agent", NEEDS)
def test_what_an_agent_shows(tmp_path: Path, agent: str, server: str, with_ours: bool) -> None:
    if not is_here(NEEDS[agent]):
        pytest.skip(f"{agent} is not installed: make agents")
    found = watched(tmp_path, agent, server, with_ours=with_ours)
    own, without, with_it = TABLE[agent, server]
    assert found.get("own") == own
    assert found["ours"] == (with_it if with_ours else without)


def test_the_page_has_this_table() -> None:
    page = (ROOT / "docs/agents.md").read_text()
    rows = [
        f"| {NAMES[agent]} | {server} | {'-' if own is None else own} | {without} | {with_it} |"
        for (agent, server), (own, without, with_it) in TABLE.items()
    ]
    assert "\n".join(rows) in page, "\n".join(rows)
