"""The current user and the locale come along into tasks, with the extensions that keep them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, request, url_for

from bgadapters import add_task
from bgadapters.flask import BackgroundTasks

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
Log = list[Any]


@pytest.fixture(autouse=True)
def _recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SNIPPETS))


@pytest.fixture
def background_tasks() -> BackgroundTasks:
    return BackgroundTasks()


@pytest.fixture
def serve(background_tasks: BackgroundTasks) -> Iterator[Callable[..., Flask]]:
    apps: list[Flask] = []

    def make(*recipes: str, **config: Any) -> Flask:
        app = Flask(__name__)
        paths = [f"recipes.{recipe}" for recipe in recipes]
        app.config.update(
            SECRET_KEY="only for tests", BACKGROUND_TASKS_TASK_MIDDLEWARE=paths, **config
        )
        background_tasks.init_app(app)
        apps.append(app)
        return app

    yield make
    for app in apps:
        assert app.extensions["bgadapters"].drain(10) == []


def finished(app: Flask) -> None:
    assert app.extensions["bgadapters"].drain(10) == []


@pytest.mark.parametrize("protection", ["basic", "strong", None])
def test_the_current_user_of_flask_login_is_that_of_the_request(
    serve: Callable[..., Flask], background_tasks: BackgroundTasks, protection: str | None
) -> None:
    flask_login = pytest.importorskip("flask_login")
    app = serve("flask_user.CurrentUser", SESSION_PROTECTION=protection)
    log: Log = []

    class User(flask_login.UserMixin):  # type: ignore[misc,name-defined]  # it has no types
        def __init__(self, name: str) -> None:
            self.id = name

    manager = flask_login.LoginManager(app)
    manager.user_loader(User)
    flask_login.session_protected.connect(lambda *_: log.append("unknown session"), weak=False)

    def seen(kind: str) -> None:
        user = flask_login.current_user
        log.append((kind, user.get_id() if user else None, url_for("act", _external=True)))

    def adds() -> None:
        seen("first")
        add_task(seen, "by add_task")
        background_tasks.add_task(seen, "by the extension")

    async def aseen() -> None:
        seen("async")

    @app.get("/login/<name>")
    def login(name: str) -> str:
        flask_login.login_user(User(name))
        return ""

    @app.get("/act")
    def act() -> str:
        background_tasks.add_task(adds)
        background_tasks.add_task(aseen)
        return ""

    for name in ("ada", "bob", None):
        client = app.test_client()
        options: Any = {"base_url": "https://shop.example", "headers": {"User-Agent": f"{name}'s"}}
        if name:
            client.get(f"/login/{name}", **options).close()
        client.get("/act", **options).close()
        finished(app)
    kinds = ("first", "async", "by add_task", "by the extension")
    url = "https://shop.example/act"
    assert log == [(kind, name, url) for name in ("ada", "bob", None) for kind in kinds]


def test_the_locale_of_flask_babel_is_that_of_the_request(
    serve: Callable[..., Flask], background_tasks: BackgroundTasks
) -> None:
    flask_babel = pytest.importorskip("flask_babel")
    app = serve("flask_locale.Locale")
    log: Log = []

    def choose() -> str | None:
        return request.accept_languages.best_match(["de", "fr_CA"])

    flask_babel.Babel(app, locale_selector=choose)

    def task() -> None:
        log.append((str(flask_babel.get_locale()), flask_babel.format_decimal(1234.5)))

    async def atask() -> None:
        task()

    @app.get("/")
    def view() -> str:
        background_tasks.add_task(task)
        background_tasks.add_task(atask)
        return ""

    for language in ("de", "fr-CA"):
        app.test_client().get("/", headers={"Accept-Language": language}).close()
        finished(app)
    assert log == [*2 * [("de", "1.234,5")], *2 * [("fr_CA", "1\xa0234,5")]]


def test_outside_of_a_request_the_recipes_do_nothing(
    serve: Callable[..., Flask], background_tasks: BackgroundTasks
) -> None:
    pytest.importorskip("flask_login")
    pytest.importorskip("flask_babel")
    app = serve("flask_user.CurrentUser", "flask_locale.Locale")
    log: Log = []
    with background_tasks.queue(app) as tasks:
        tasks.add_task(log.append, "ran")
    finished(app)
    assert log == ["ran"]
    captured = (
        importlib.import_module("recipes.flask_user").CurrentUser().capture(SimpleNamespace())
    )
    assert captured is None
