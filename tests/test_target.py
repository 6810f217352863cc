"""What may be given as a target, and what is said of others."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bgadapters.target import TargetError, interface_of, load, targets_of_django
from tests.check import apps
from tests.core.ways import PATIENCE

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("target", ["tests.check.apps:bare_wsgi", "tests.check.apps:Namespace.app"])
def test_an_attribute_of_a_module(target: str) -> None:
    assert load(target) is apps.bare_wsgi


@pytest.mark.parametrize(
    ("target", "is_factory"),
    [("tests.check.apps:wsgi_app()", False), ("tests.check.apps:wsgi_app", True)],
)
def test_a_factory(target: str, is_factory: bool) -> None:
    assert type(load(target, is_factory=is_factory)).__name__ == "BackgroundTasksMiddleware"


def factory_with_defaults(config: Any = None, *, debug: bool = False, **more: Any) -> Any:
    return apps.bare_wsgi


def factory_of(config: Any) -> None: ...


async def async_factory() -> None: ...


def test_a_function_without_arguments_is_a_factory_whatever_is_said() -> None:
    assert type(load("tests.check.apps:wsgi_app")).__name__ == "BackgroundTasksMiddleware"
    assert load(f"{__name__}:factory_with_defaults") is apps.bare_wsgi


def test_a_decorated_application_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def decorated(*args: Any) -> None: ...

    monkeypatch.setattr(apps, "bare_wsgi", decorated)
    assert load("tests.check.apps:bare_wsgi") is decorated


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("tests.check.apps", "neither module:application nor a URL"),
        (":app", "neither module:application nor a URL"),
        ("tests.check.nowhere:app", "no module 'tests.check.nowhere'"),
        ("nowhere.at.all:app", "no module 'nowhere'"),
        ("tests.check.apps:nowhere", "has no attribute 'nowhere'"),
        ("tests.check.apps:Namespace.nowhere", "has no attribute 'nowhere'"),
        ("tests.check.apps:nothing", "is 42, which is no application"),
        ("tests.check.apps:returns_nothing()", "returned None, which is no application"),
        ("tests.check.apps:returns_nothing", "returned None, which is no application"),
        (f"{__name__}:factory_of", "takes config. A WSGI application takes two arguments, an ASGI"),
        (f"{__name__}:async_factory", "is a coroutine function; a factory is a plain function"),
    ],
)
def test_a_target_that_is_none(target: str, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        load(target)


def test_a_module_of_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lies_here.py").write_text("def app(environ, start_response): ...")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert load("lies_here:app").__module__ == "lies_here"


def test_a_module_that_misses_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is an error of the application, not of the target."""
    (tmp_path / "misses_one.py").write_text("import nowhere_to_be_found")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        load("misses_one:app")


def _sync_of_two(environ: Any, start_response: Any, more: Any = None) -> None: ...


async def _async(*_: Any) -> None: ...


@pytest.mark.parametrize(
    ("application", "interface"),
    [
        (apps.bare_wsgi, "wsgi"),
        (_sync_of_two, "wsgi"),
        (apps.flask_app(), "wsgi"),
        (type, "wsgi"),
        (apps.bare_asgi, "asgi"),
        (_async, "asgi"),
        (partial(_async), "asgi"),
        (apps.fastapi_app(), "asgi"),
        (apps.plain_asgi_function(), "asgi"),
    ],
)
def test_wsgi_and_asgi_are_told_apart(application: Any, interface: str) -> None:
    assert interface_of(application) == interface


def test_without_django_there_is_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    with pytest.raises(TargetError, match="DJANGO_SETTINGS_MODULE"):
        targets_of_django()


SITE = "tests.check.site"
HOST = ("--header", "Host: example.com")


def command(*arguments: str, settings: str = f"{SITE}.settings") -> Any:
    """Run the command in a process of its own: Django has one configuration a process."""
    environ = {**os.environ, "DJANGO_SETTINGS_MODULE": settings}
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "bgadapters", "check", *arguments],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )


@pytest.mark.slow
def test_django_is_found_by_its_settings() -> None:
    """Both applications are checked, one after the other."""
    done = command(*HOST)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{SITE}.wsgi:application\nok" in done.stdout
    assert f"{SITE}.asgi:application\nok" in done.stdout
    assert "max_workers=5" in done.stdout
    assert "at lifespan.shutdown tasks are waited for" in done.stdout
    assert "FAILED" not in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/", "/async"])
def test_django_without_our_asgi_application_is_noted(path: str) -> None:
    done = command(f"{SITE}.plain_asgi:application", *HOST, "--path", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "from bgadapters.django.asgi import get_asgi_application" in done.stdout


@pytest.mark.slow
def test_django_under_wsgi_with_an_async_view() -> None:
    done = command(f"{SITE}.wsgi:application", *HOST, "--path", "/async")
    assert (done.returncode, done.stderr) == (0, "")
    assert "bgadapters.django opened a queue" in done.stdout


@pytest.mark.slow
def test_a_host_that_django_refuses() -> None:
    done = command(f"{SITE}.wsgi:application")
    assert done.returncode == 1
    assert "no queue was opened for GET / (answered 400)" in done.stdout
    assert "a Host that is allowed" in done.stdout


@pytest.mark.slow
def test_django_with_the_decorator_alone() -> None:
    """Called here, by no server, it is a note; all else is sound."""
    settings = f"{SITE}.decorator_alone"
    done = command(f"{SITE}.wsgi:application", *HOST, settings=settings)
    assert done.returncode == 0
    assert "Add 'bgadapters.django' to INSTALLED_APPS." in done.stdout


def test_settings_that_name_no_application() -> None:
    done = command(settings=f"{SITE}.bare")
    assert done.returncode == 2
    assert "neither WSGI_APPLICATION nor ASGI_APPLICATION" in done.stderr


def test_the_applications_of_django(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the settings name them, if they do."""
    from django.conf import settings

    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", f"{SITE}.settings")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != os.getcwd()])
    monkeypatch.setattr(
        settings, "_wrapped", SimpleNamespace(WSGI_APPLICATION="site.wsgi.application")
    )
    assert targets_of_django() == ["site.wsgi:application"]
    assert sys.path[0] == os.getcwd()
    monkeypatch.setattr(settings, "_wrapped", SimpleNamespace(WSGI_APPLICATION=None))
    with pytest.raises(TargetError, match="neither WSGI_APPLICATION nor ASGI_APPLICATION"):
        targets_of_django()
