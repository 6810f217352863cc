"""What the pages show of Huey works: with a real consumer, and in FastAPI, Flask and Django."""

from __future__ import annotations

import importlib
import os
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

import bgadapters
from bgadapters.stores import StoredTasks
from tests.engines.bench import Bench, until
from tests.engines.test_huey import SqliteBench, needs_redis
from tests.running import ROOT

pytest.importorskip("huey")

SNIPPETS = ROOT / "docs" / "snippets"
REDIS = "redis://127.0.0.1:6379/15"

Snippet = Callable[[str], ModuleType]


@pytest.fixture
def snippet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Snippet]:
    """Import a file of docs/snippets, in a directory of its own."""
    monkeypatch.syspath_prepend(str(SNIPPETS))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUEY_SECRET", uuid.uuid4().hex)  # so that no other test's can be read
    monkeypatch.setenv("REDIS_URL", REDIS)
    yield importlib.import_module
    bgadapters.drain()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(SNIPPETS)):
            del sys.modules[name]


def _in(directory: Path) -> str:
    """Code that runs the module which its first argument names, in another directory."""
    code = f"import os, runpy, sys; os.chdir({str(directory)!r}); sys.argv = sys.argv[1:]; "
    return f"{code}runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"


@contextmanager
def consumer(bench: Bench, *command: str, **environ: str) -> Iterator[None]:
    """Run a consumer of a snippet in the directory of the test."""
    path = os.pathsep.join([str(SNIPPETS), str(ROOT)])
    with bench.process("-c", _in(bench.directory), *command, PYTHONPATH=path, **environ):
        until(lambda: "consumer started" in bench.said(), bench.said)
        yield


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return SqliteBench(tmp_path)


def is_done(*emails: str) -> bool:
    log = Path("log.txt")
    text = log.read_text() if log.exists() else ""
    return all(f"notification for {each}: your report\n" in text for each in emails)


def test_fastapi(snippet: Snippet, bench: Bench) -> None:
    from starlette.testclient import TestClient

    client = TestClient(snippet("engines_shop").app)
    with consumer(bench, "huey.bin.huey_consumer", "engines_shop.huey"):
        assert client.post("/reports/ada").status_code == 200
        assert client.post("/invoices/bob").status_code == 200
        until(lambda: is_done("ada", "bob"), bench.said)


@needs_redis
def test_flask(snippet: Snippet, bench: Bench) -> None:
    module = snippet("engines_huey_flask")
    module.huey.flush()
    with consumer(bench, "huey.bin.huey_consumer", "engines_huey_flask.huey"):
        assert module.app.test_client().post("/reports/ada").status_code == 200
        until(lambda: is_done("ada"), bench.said)
    module.huey.storage.pool.disconnect()


def test_django(snippet: Snippet, bench: Bench) -> None:
    """Its command is `run_huey`; the settings import no engine."""
    settings = {"DJANGO_SETTINGS_MODULE": "engines_huey_django"}
    send = (
        "import django; django.setup()\n"
        "from bgadapters import BackgroundTasks, drain\n"
        "from bgadapters.django.runtime import get_runtime\n"
        "from engines_report import make_report\n"
        "with BackgroundTasks(runtime=get_runtime()) as tasks:\n"
        "    tasks.options(engine='heavy').add_task(make_report, 'ada')\n"
        "assert drain(20) == []\n"
    )
    code = f"import os; os.chdir({str(bench.directory)!r})\n{send}"
    path = os.pathsep.join([str(SNIPPETS), str(ROOT)])
    with consumer(bench, "django", "run_huey", **settings):
        with bench.process("-W", "error", "-c", code, PYTHONPATH=path, **settings) as web:
            assert web.wait(60) == 0, bench.said()
        until(lambda: is_done("ada"), bench.said)


def test_failover(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens where Redis should be: the file has the task before the response."""
    pytest.importorskip("redis")
    from starlette.testclient import TestClient

    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    module = snippet("engines_failover")
    assert TestClient(module.app).post("/reports/ada").status_code == 200
    assert module.file.pending_count() == 1
    module.file.storage.close()


@needs_redis
def test_the_outbox(snippet: Snippet) -> None:
    """The row is gone when Redis has the task."""
    from starlette.testclient import TestClient

    module = snippet("engines_outbox")
    module.huey.flush()
    with TestClient(module.app) as client:
        assert client.post("/reports/ada").status_code == 200
        until(lambda: module.huey.pending_count() == 1)
        stored = StoredTasks("sqlite:///tasks.db")
        until(lambda: stored.count() == {"waiting": 0, "failed": 0})
    module.huey.flush()
    module.huey.storage.pool.disconnect()


def test_a_test_sends_nothing(bench: Bench, tmp_path: Path) -> None:
    """The test that the page shows passes, without a broker."""
    pytest.importorskip("fastapi")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    plugins = ("-p", "no:asyncio", "-p", "no:randomly", "-p", "no:django")
    command = ("-c", _in(tmp_path), "pytest", "-q", "-c", str(tmp_path / "pytest.ini"), *plugins)
    environ = {"HUEY_SECRET": "of the tests", "PYTHONPATH": str(ROOT)}
    with bench.process(*command, str(SNIPPETS / "engines_test.py"), **environ) as process:
        assert process.wait(60) == 0, bench.said()
    assert "1 passed" in bench.said()
