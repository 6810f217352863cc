"""``check URL``: servers that run already, sound ones and those that need a change."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from bgadapters.core.app.runtime import CHECK_TOKEN as TOKEN
from tests.check.conftest import SECRET, Check
from tests.running import running

pytestmark = [pytest.mark.host, pytest.mark.slow]

APPS = "tests.check.apps"
PYTHON = sys.executable
KEPT = ["queue ok", "release ok", "client ok", "next ok", "threads ok", "async ok", "once ok"]


@contextmanager
def served(tmp_path: Path, *command: str, token: str | None = SECRET) -> Iterator[str]:
    """Start a server that has opted in, unless ``token`` is None; give its URL."""
    environ = {TOKEN: token or "", "PYTHONWARNINGS": "ignore"}
    with running(tmp_path, *command, **environ) as server:
        yield server.url


def gunicorn(app: str, *worker: str) -> tuple[str, ...]:
    server = (PYTHON, "-m", "gunicorn", "--bind", "127.0.0.1:{port}", "--no-control-socket")
    return (*server, "--worker-class", *worker, f"{APPS}:{app}()")


def uvicorn(app: str, *options: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "uvicorn", "--port", "{port}", "--factory", f"{APPS}:{app}", *options)


def waitress(app: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "waitress", "--listen", "127.0.0.1:{port}", "--call", f"{APPS}:{app}")


def hypercorn(app: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "hypercorn", "--bind", "127.0.0.1:{port}", f"{APPS}:{app}()")


SOUND = {
    "gthread": (gunicorn("flask_app", "gthread", "--threads", "2"), []),
    "sync": (gunicorn("flask_app", "sync"), []),
    "gevent": (gunicorn("flask_app", "gevent"), []),
    "uvicorn": (uvicorn("configured_fastapi_app"), ["shutdown ok"]),
    "a2wsgi": (uvicorn("a2wsgi_app"), ["shutdown note"]),
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_server_passes(check: Check, tmp_path: Path, name: str) -> None:
    command, shutdown = SOUND[name]
    with served(tmp_path, *command) as url:
        report = check(url)
    assert report.about() == [*KEPT, *shutdown, "sigterm ok", "settings note"]
    assert report.code == 0


def test_whether_the_next_request_had_the_same_connection(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *gunicorn("flask_app", "gthread", "--threads", "2")) as url:
        assert "on the same connection" in check(url).the("next").text
    with served(tmp_path, *gunicorn("flask_app", "sync")) as url:
        assert "the server keeps none" in check(url).the("next").text


@pytest.mark.parametrize("app", ["asgiref_app", "starlette_app"])
def test_an_adapter_that_never_closes_is_named(check: Check, tmp_path: Path, app: str) -> None:
    with served(tmp_path, *uvicorn(app)) as url:
        report = check(url, "--timeout", "2")
    assert report.code == 1
    assert report.failed == ["release"]
    assert "never calls close()" in report.the("release").text
    assert "a2wsgi" in report.the("release").advice


def test_a_middleware_that_never_closes_is_named(check: Check, tmp_path: Path) -> None:
    """Neither the server's own modules nor ours are named beside it."""
    with served(tmp_path, *gunicorn("never_closed", "sync")) as url:
        report = check(url, "--timeout", "2")
    assert report.failed == ["release"]
    assert report.the("release").advice.endswith("stand: tests.check.apps.NeverCloses.__call__.")


def test_a_middleware_that_keeps_the_response_back(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *uvicorn("buffered")) as url:
        report = check(url)
    assert report.failed == ["client"]
    assert "tests.check.apps.ClosesInItsOwnTime.__call__" in report.the("client").advice


def test_a_server_that_calls_the_application_twice(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *gunicorn("called_twice", "sync")) as url:
        assert "once" in check(url).failed


def test_a_server_that_forks_for_each_request_is_noted(check: Check, tmp_path: Path) -> None:
    """No limit of threads is to be raised there."""
    serve = f"""
        from werkzeug.serving import run_simple
        from {APPS} import flask_app
        run_simple("127.0.0.1", {{port}}, flask_app(), processes=4)
        """
    with served(tmp_path, PYTHON, "-c", dedent(serve)) as url:
        report = check(url)
    assert report.code == 0
    assert report.the("threads").verdict == "note"
    assert "forks a process for each request" in report.the("threads").text
    assert "once ok" in report.about()


def test_a_server_whose_process_gevent_has_patched_late(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *gunicorn("flask_app", "gevent", "--preload")) as url:
        report = check(url, "--timeout", "2")
    assert report.code == 1
    assert report.failed == ["threads"]
    assert "monkey.patch_all()" in report.the("threads").advice


def test_a_server_without_lifespan_is_noted(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *uvicorn("configured_fastapi_app", "--lifespan", "off")) as url:
        report = check(url)
    assert report.code == 0
    assert "does not reach bgadapters" in report.the("shutdown").text


def test_workers_that_leave_signals_to_their_parent(check: Check, tmp_path: Path) -> None:
    """Whatever may handle SIGTERM there, it is no failure that hypercorn's workers do not."""
    with served(tmp_path, *hypercorn("configured_fastapi_app")) as url:
        report = check(url)
    assert report.code == 0
    assert report.the("sigterm").verdict in {"note", "ok"}


@pytest.mark.parametrize(
    ("server", "line"),
    [
        (("waitress", "--listen", "127.0.0.1:{port}"), "Add 'bgadapters.django' to INSTALLED_APPS"),
        (
            ("uvicorn", "--port", "{port}"),
            "from bgadapters.django.asgi import get_asgi_application",
        ),
    ],
)
def test_django_with_the_decorator_alone(
    check: Check, tmp_path: Path, server: tuple[str, ...], line: str
) -> None:
    """uvicorn handles SIGTERM, but raises it again when it has stopped, and nobody hears that."""
    module = "wsgi" if server[0] == "waitress" else "plain_asgi"
    site = f"tests.check.site.{module}:application"
    environ = {
        TOKEN: SECRET,
        "DJANGO_SETTINGS_MODULE": "tests.check.site.decorator_alone",
        "PYTHONWARNINGS": "ignore",
    }
    with running(tmp_path, PYTHON, "-m", *server, site, **environ) as started:
        report = check(started.url, "--header", "Host: example.com")
    assert report.failed == ["sigterm"]
    assert line in report.the("sigterm").advice


def test_who_handles_sigterm(check: Check, tmp_path: Path) -> None:
    """A server that does not leaves it to us, or tasks are lost and the check says so."""
    with served(tmp_path, *waitress("flask_app")) as url:
        report = check(url)
    assert report.failed in (["sigterm"], [])
    sigterm = report.the("sigterm")
    assert ("signal.signal" in sigterm.advice) is (report.code == 1)
    assert ("bgadapters" in sigterm.text) is (report.code == 0)


@pytest.mark.skipif(
    not (Path(PYTHON).parent / "uwsgi").exists() and shutil.which("uwsgi") is None,
    reason="uWSGI is not installed",
)
def test_uwsgi_is_believed_about_its_threads(check: Check, tmp_path: Path) -> None:
    """Its versions differ in whether threads run without --enable-threads; it says so itself."""
    command = ("{bin}/uwsgi", "--http-socket", "127.0.0.1:{port}", "--die-on-term", "--need-app")
    with served(tmp_path, *command, "--wsgi", f"{APPS}:made_flask_app") as url:
        report = check(url)
    enabled = "python threads support enabled" in (tmp_path / "server.log").read_text()
    assert ("threads" in report.failed) is not enabled
    assert report.the("sigterm").text == "SIGTERM is handled, by the server, outside Python"


def test_a_server_that_has_not_opted_in(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *uvicorn("fastapi_app"), token=None) as url:
        report = check(f"{url}/?a=1")
    assert report.code == 1
    assert report.about() == ["queue FAILED"]
    assert "no queue was opened for GET /?a=1 (answered 200)" in report.the("queue").text
    assert f"start it with {TOKEN}" in report.the("queue").advice


def test_a_server_with_another_token(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *uvicorn("fastapi_app"), token="x" * 20) as url:
        assert check(url).about() == ["queue FAILED"]


def test_a_server_that_does_not_run(check: Check) -> None:
    report = check("http://127.0.0.1:1")
    assert report.code == 1
    assert "got no answer: ConnectionRefusedError" in report.the("queue").text
    assert "Start the server" in report.the("queue").advice


def test_a_path_of_its_own(check: Check, tmp_path: Path) -> None:
    with served(tmp_path, *uvicorn("fastapi_app")) as url:
        assert check(f"{url}/without").about() == ["queue FAILED"]
        assert check(f"{url}/without", "--path", "/").code == 0
        assert check(f"{url}/gone").failed == ["release"]
