"""Flask: durable tasks that cannot be kept, and who answers that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import flask
import pytest

from bgadapters import StoreUnavailableError, task_options
from bgadapters.flask import BackgroundTasks
from tests.core import durable_tasks
from tests.core.memory_store import MemoryStore
from tests.core.ways import PATIENCE
from tests.gateways.wsgi_calls import Server, environ

background_tasks = BackgroundTasks()


@task_options(durable=True)
def note(what: str) -> None:
    durable_tasks.happened.append((what, flask.current_app.name))


@pytest.fixture
def store() -> MemoryStore:
    durable_tasks.happened.clear()
    return MemoryStore()


@pytest.fixture
def app(store: MemoryStore) -> Iterator[flask.Flask]:
    app = flask.Flask("shop")
    background_tasks.init_app(app, store=store)

    @app.post("/")
    def sign_up() -> Any:
        background_tasks.add_task(note, "signed up")
        return "accepted", 202, {"X-View": "1"}

    @app.post("/stream")
    def stream() -> Any:
        def parts() -> Iterator[str]:
            background_tasks.add_task(note, "streamed")
            yield "part"

        return flask.Response(flask.stream_with_context(parts()))

    yield app
    store.on_call = lambda name: None
    runtime = app.extensions["bgadapters"]
    assert runtime.drain(PATIENCE) == []
    runtime.close()


@pytest.fixture
def is_away(store: MemoryStore) -> None:
    def on_call(name: str) -> None:
        if name == "write" and store.calls[-1][1]:
            raise StoreUnavailableError("it is away")

    store.on_call = on_call


def post(app: flask.Flask, path: str = "/") -> flask.Response:
    """Send a request by a server that keeps to PEP 3333: Werkzeug's client does not."""
    server = Server().serve(app, environ("POST", path))
    return app.response_class(server.received, server.status, server.headers)


@pytest.mark.parametrize("path", ["/", "/stream"])
def test_kept_before_the_response(app: flask.Flask, store: MemoryStore, path: str) -> None:
    response = post(app, path)
    assert response.status_code in {200, 202}
    assert app.extensions["bgadapters"].drain(PATIENCE) == []
    assert [app_name for _, app_name in durable_tasks.happened] == ["shop"]
    assert store.database.ids() == []


@pytest.mark.usefixtures("is_away")
@pytest.mark.parametrize("path", ["/", "/stream"])
def test_503_by_default(app: flask.Flask, path: str, caplog: pytest.LogCaptureFixture) -> None:
    response = post(app, path)
    assert response.status_code == 503
    assert response.headers["Retry-After"] == "10"
    assert "X-View" not in response.headers
    assert b"Service Unavailable" in response.data
    assert durable_tasks.happened == []
    assert caplog.text.count("The response to") == 1


@pytest.mark.usefixtures("is_away")
@pytest.mark.parametrize("what", [StoreUnavailableError, RuntimeError, Exception, 503])
def test_an_error_handler_answers(app: flask.Flask, what: Any) -> None:
    @app.errorhandler(what)
    def answer(error: Any) -> Any:
        assert flask.request.path == "/"
        return f"sorry: {type(error).__name__}", 429

    response = post(app)
    named = "ServiceUnavailable" if what == 503 else "StoreUnavailableError"
    assert (response.status_code, response.get_data(as_text=True)) == (429, f"sorry: {named}")


@pytest.mark.usefixtures("is_away")
def test_functions_after_a_request_see_the_answer(app: flask.Flask) -> None:
    seen: list[int] = []

    @app.after_request
    def after(response: flask.Response) -> flask.Response:
        seen.append(response.status_code)
        response.headers["X-After"] = "1"
        return response

    response = post(app)
    assert response.headers["X-After"] == "1"
    assert seen == [202, 503]


@pytest.mark.usefixtures("is_away")
def test_a_handler_that_fails_is_an_error_of_the_application(app: flask.Flask) -> None:
    @app.errorhandler(StoreUnavailableError)
    def answer(error: Any) -> Any:
        raise KeyError("a fault")

    with pytest.raises(KeyError):
        post(app)
    assert durable_tasks.happened == []


@pytest.mark.usefixtures("is_away")
def test_a_handler_may_add_tasks(app: flask.Flask) -> None:
    @app.errorhandler(StoreUnavailableError)
    def answer(error: Any) -> Any:
        background_tasks.options(durable=False).add_task(note, "refused")
        return "sorry", 503

    post(app)
    assert app.extensions["bgadapters"].drain(PATIENCE) == []
    assert durable_tasks.happened == [("refused", "shop")]


@pytest.mark.usefixtures("is_away")
def test_beside_the_middleware_it_is_an_error_of_the_view(
    app: flask.Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """What has kept ``app.wsgi_app`` from before does not pass the middleware."""
    app.wsgi_app = app.wsgi_app.app  # type: ignore[attr-defined,method-assign]
    response = post(app)
    assert response.status_code == 500
    assert durable_tasks.happened == []
    assert "StoreUnavailableError: it is away" in caplog.text


def test_teardown_functions_add_what_nobody_waits_for(app: flask.Flask, store: MemoryStore) -> None:
    added: list[str] = []

    @app.teardown_request
    def teardown(_: Any) -> None:
        if not added:
            added.append("once")
            background_tasks.add_task(note, "torn down")

    post(app, "/stream")
    assert app.extensions["bgadapters"].drain(PATIENCE) == []
    assert ("torn down", "shop") in durable_tasks.happened
    assert store.database.ids() == []


def test_a_queue_by_itself(app: flask.Flask, store: MemoryStore) -> None:
    with background_tasks.queue(app) as tasks:
        tasks.add_task(note, "by itself")
    assert app.extensions["bgadapters"].drain(PATIENCE) == []
    assert (durable_tasks.happened, store.database.ids()) == ([("by itself", "shop")], [])
    assert sum(len(call[1]) for call in store.calls if call[0] == "write") == 1
