"""On servers, each task's spans are in the trace of the request that has added it."""

from __future__ import annotations

import json
import shutil
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.running import ROOT, Running, running

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
FAILING = ["fail-sync", "fail"]
PATIENCE = 30.0
Span = dict[str, Any]


@pytest.mark.parametrize("app", SERVERS)
def test_every_span_of_a_task_is_in_the_trace_of_its_request(tmp_path: Path, app: str) -> None:
    command, task_span, needed = SERVERS[app]
    pytest.importorskip(needed)
    arguments = command.format(app=f"{APPS}.{app}:application").split()
    with visited(tmp_path, sys.executable, *arguments) as (spans, _):
        check(spans, task_span)
        if task_span == "run ":
            check_discards(spans)


def test_the_span_of_a_task_that_a_process_gives_up_is_not_lost(tmp_path: Path) -> None:
    command, _, needed = SERVERS["flask_app"]
    pytest.importorskip(needed)
    arguments = command.format(app=f"{APPS}.flask_app:application").split()
    with visited(tmp_path, sys.executable, *arguments) as (_, server):
        get(server, "hang")
        until(lambda: [s for s in read(tmp_path) if s["name"] == "hanging"])
    (span,) = [s for s in read(tmp_path) if s["name"].endswith(".hang")]
    assert span["attributes"]["error.type"] == "abandoned"
    assert span["status"]["status_code"] == "ERROR"
    (inside,) = [s for s in read(tmp_path) if s["name"] == "hanging"]
    assert inside["parent_id"] == span["context"]["span_id"]


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
    with visited(
        tmp_path,
        program,
        *(sys.executable, "-c", code),
        PYTHONPATH=f"{tmp_path / 'site'}:{ROOT}",
        OTEL_PYTHON_CONFIGURATOR="traced_everywhere",
    ) as (spans, _):
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


@contextmanager
def visited(
    tmp_path: Path, *command: str, **environ: str
) -> Iterator[tuple[dict[str, Span], Running]]:
    """Make requests side by side; give the spans by their ids, when all have ended."""
    file = tmp_path / "spans"
    file.touch()
    with running(tmp_path, *command, SPANS=str(file), **environ) as server:
        with ThreadPoolExecutor(len(NAMES)) as clients:
            assert set(clients.map(lambda who: get(server, who), NAMES)) == {200}
            assert set(clients.map(lambda who: get(server, who), FAILING)) == {500}
        spans = until(lambda: complete(read(tmp_path)))
        yield {span["context"]["span_id"]: span for span in spans}, server


def get(server: Running, who: str) -> int:
    try:
        with urllib.request.urlopen(f"{server.url}/add/{who}", timeout=PATIENCE) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as exc:
        return exc.code


def read(tmp_path: Path) -> list[Span]:
    lines = (tmp_path / "spans").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def complete(spans: list[Span]) -> list[Span] | None:
    """The same, if each task's span is there, and each span's parent."""
    parents = {span["parent_id"] for span in spans}
    ids = {span["context"]["span_id"] for span in spans}
    inside = [span for span in spans if span["name"] == "inside"]
    served = [span for span in spans if "/add/fail" in str(path_of(span))]
    is_complete = len(inside) == 3 * len(NAMES) and len(served) == 2 and parents <= {*ids, None}
    return spans if is_complete else None


def until(ask: Callable[[], list[Span] | None]) -> list[Span]:
    deadline = time.monotonic() + PATIENCE
    while not (found := ask()):
        assert time.monotonic() < deadline, "spans are missing"
        time.sleep(0.02)
    return found


def path_of(span: Span) -> str | None:
    path: str | None = span["attributes"].get("url.path") or span["attributes"].get("http.target")
    return path


def check_discards(spans: dict[str, Span]) -> None:
    """A request whose view has failed tells which tasks will not run."""
    for who in FAILING:
        (request,) = [span for span in spans.values() if path_of(span) == f"/add/{who}"]
        functions = [
            event["attributes"]["code.function.name"].rpartition(".")[2]
            for event in request["events"]
            if event["name"] == "bgadapters.task.discarded"
        ]
        assert functions == ["work", "awork", "boom"]


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
        assert path_of(request) == f"/add/{who}"
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
