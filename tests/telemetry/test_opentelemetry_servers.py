"""On servers, each task's spans are in the trace of the request that has added it."""

from __future__ import annotations

import json
import shutil
import sys
import time
import tomllib
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, running

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
pytest.importorskip("opentelemetry.instrumentation", reason="the extra is not installed")

pytestmark = pytest.mark.host

UVICORN = "-m uvicorn {app} --port {{port}} --log-level warning"
GTHREAD = "-m gunicorn {app} --bind 127.0.0.1:{{port}} --threads 4"
SERVERS = {
    "fastapi_app": (UVICORN, "fastapi.background_task", "fastapi"),
    "contrib_fastapi_app": (UVICORN, "run ", "opentelemetry.instrumentation.fastapi"),
    "flask_app": (GTHREAD, "run ", "opentelemetry.instrumentation.flask"),
    "django_app": (UVICORN, "run ", "opentelemetry.instrumentation.django"),
}
NAMES = ["sync-0", "1", "sync-2", "3", "sync-4", "5"]
PATIENCE = 30.0
Span = dict[str, Any]


@pytest.mark.parametrize("app", SERVERS)
def test_every_span_of_a_task_is_in_the_trace_of_its_request(tmp_path: Path, app: str) -> None:
    command, task_span, needed = SERVERS[app]
    pytest.importorskip(needed)
    spans = visit(
        tmp_path, sys.executable, *command.format(app=f"{APPS}.{app}:application").split()
    )
    check(spans, task_span)


def test_opentelemetry_instrument_finds_the_instrumentor(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.flask")
    program = shutil.which("opentelemetry-instrument", path=str(Path(sys.executable).parent))
    assert program is not None
    install_metadata(tmp_path / "site")
    (tmp_path / "site" / "traced_everywhere.py").write_text(
        "from tests.telemetry.traced.work import export\n"
        "class Configurator:\n"
        "    def configure(self, **_): export()\n"
    )
    code = (
        "from werkzeug.serving import run_simple;"
        "from tests.telemetry.traced.bare_flask_app import application;"
        "run_simple('127.0.0.1', {port}, application, threaded=True)"
    )
    spans = visit(
        tmp_path,
        program,
        *(sys.executable, "-c", code),
        PYTHONPATH=f"{tmp_path / 'site'}:{ROOT}",
        OTEL_PYTHON_CONFIGURATOR="traced_everywhere",
    )
    check(spans, "run ")


APPS = "tests.telemetry.traced"


def install_metadata(site: Path) -> None:
    """Let the tools that look for installed distributions find this one, as it is declared."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = site / "bgadapters-0.1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bgadapters\nVersion: 0.1.0\n")
    points = project["entry-points"]["opentelemetry_instrumentor"]
    lines = ["[opentelemetry_instrumentor]", *(f"{k} = {v}" for k, v in points.items())]
    lines += ["[opentelemetry_configurator]", "traced_everywhere = traced_everywhere:Configurator"]
    (info / "entry_points.txt").write_text("\n".join(lines))


def visit(tmp_path: Path, *command: str, **environ: str) -> dict[str, Span]:
    """Make requests side by side; return the spans by their ids, when all have ended."""
    file = tmp_path / "spans"
    file.touch()
    with running(tmp_path, *command, SPANS=str(file), **environ) as server:

        def get(who: str) -> None:
            with urllib.request.urlopen(f"{server.url}/add/{who}", timeout=PATIENCE) as response:
                assert response.status == 200

        with ThreadPoolExecutor(len(NAMES)) as clients:
            list(clients.map(get, NAMES))
        return {span["context"]["span_id"]: span for span in until_all_have_ended(file)}


def until_all_have_ended(file: Path) -> list[Span]:
    deadline = time.monotonic() + PATIENCE
    while True:
        spans = [json.loads(line) for line in file.read_text().splitlines(keepends=True)
                 if line.endswith("\n")]  # fmt: skip
        parents = {span["parent_id"] for span in spans}
        ids = {span["context"]["span_id"] for span in spans}
        inside = [span for span in spans if span["name"] == "inside"]
        if len(inside) == 3 * len(NAMES) and parents <= {*ids, None}:
            return spans
        assert time.monotonic() < deadline, f"{len(inside)} tasks; {[s['name'] for s in spans]}"
        time.sleep(0.02)


def check(spans: dict[str, Span], task_span: str) -> None:
    found: list[tuple[str, str]] = []
    for inside in spans.values():
        if inside["name"] != "inside":
            continue
        who = inside["attributes"]["who"]
        task, request, *further = ancestors(spans, inside)
        assert task["name"].startswith(task_span)
        assert not further
        assert request["kind"] == "SpanKind.SERVER"
        path = request["attributes"].get("url.path") or request["attributes"].get("http.target")
        assert path == f"/add/{who}"
        function = task["attributes"]["code.function.name"]
        is_failed = function.endswith(".boom")
        assert (task["status"]["status_code"] == "ERROR") == is_failed
        assert task["attributes"].get("error.type") == ("ValueError" if is_failed else None)
        assert task["start_time"] >= request["end_time"] or task_span.startswith("run ")
        found.append((who, function.rpartition(".")[2]))
    functions = ("awork", "boom", "work")
    assert sorted(found) == sorted((who, name) for who in NAMES for name in functions)
    assert sum(s["name"].startswith(task_span) for s in spans.values()) == len(found)


def ancestors(spans: dict[str, Span], span: Span) -> Iterator[Span]:
    while span["parent_id"] is not None:
        span = spans[span["parent_id"]]
        yield span
