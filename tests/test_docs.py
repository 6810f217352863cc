"""The documentation is true: its examples run, its links lead somewhere, its tables are whole."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import difflib
import importlib
import io
import json
import logging
import os
import pkgutil
import re
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, get_args
from unittest import mock

import pytest

import bgadapters
from bgadapters.adapters import Kind, Runtime, Settings, parse_settings
from bgadapters.core.app.runtime import runtimes
from bgadapters.core.model.options import OptionNames, Options, TaskOptions
from bgadapters.fastapi import init_app
from bgadapters.stores import Change, Row, StoredTasks
from bgadapters.stores.command import add_to
from bgadapters.stores.sqlite import SQLiteStore
from tests.gateways.serverless import event as lambda_event
from tests.our_log import OurLog

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets"
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]

_REGION = re.compile(r"# region: (?P<name>[\w-]+)\n(?P<text>.*?)# endregion\n", re.DOTALL)
_MARKER = re.compile(r"\n*# endregion\n|# region: [\w-]+\n")
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")
_HEADING = re.compile(r"^#+ (?P<text>.*)$", re.MULTILINE)
_NAME = re.compile(r"`(?P<name>bgadapters(?:\.\w+)+)`")
_ROW = re.compile(r"^\| *`(?P<name>\w+)` *\|(?P<cells>.*)\|$", re.MULTILINE)


def excerpts() -> dict[str, str]:
    """Every text that a page may show: the files in docs/snippets, and their regions.

    Regions of one name in one file are parts of one text, with a blank line between.
    """
    found: dict[str, str] = {}
    for file in sorted(SNIPPETS.rglob("*.py")):
        name = file.relative_to(SNIPPETS).as_posix()
        text = file.read_text()
        parts: dict[str, list[str]] = {}
        for region in _REGION.finditer(text):
            part = textwrap.dedent(region["text"]).strip("\n")
            parts.setdefault(region["name"], []).append(part)
        found[name] = plain(_MARKER.sub(_without_marker, text))
        for region_name, texts in parts.items():
            found[f"{name}: {region_name}"] = plain("\n\n".join(texts))
    return found


def _without_marker(marker: re.Match[str]) -> str:
    return "\n" if marker[0].startswith("\n") else ""


def plain(text: str) -> str:
    """The same without trailing white space."""
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def python_blocks(page: Path) -> list[str]:
    blocks = _BLOCK.finditer(page.read_text())
    return [plain(block["text"]) for block in blocks if block["language"] == "python"]


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _BLOCK.sub("", page.read_text())


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = [heading["text"].lower() for heading in _HEADING.finditer(prose(page))]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


pages = pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])


@pages
def test_every_example_is_a_tested_file(page: Path) -> None:
    """What a page shows as Python is, word for word, a file in docs/snippets or a part of one."""
    known = {text: name for name, text in excerpts().items()}
    for block in python_blocks(page):
        if block not in known:
            nearest = difflib.get_close_matches(block, known, n=1, cutoff=0.0)
            difference = difflib.unified_diff(
                nearest[0].splitlines(), block.splitlines(), known[nearest[0]], page.name, "", "", 3
            )
            pytest.fail("not a snippet; the nearest one differs so:\n" + "\n".join(difference))


def test_every_snippet_is_shown() -> None:
    """No file in docs/snippets has been forgotten by the pages."""
    shown = {block for page in PAGES for block in python_blocks(page)}
    known = excerpts()
    for file in {name.partition(":")[0] for name, text in known.items() if text}:
        texts = {text for name, text in known.items() if name.partition(":")[0] == file}
        if file not in _SUPPORT:
            assert texts & shown, f"no page shows {file} or a region of it"


# What the examples of Django need around them, as every project has it.
_SUPPORT = {"django_site/models.py", "django_site/urls.py", "django_site/tests.py"}


@pages
def test_blocks_name_their_language(page: Path) -> None:
    """A block without a language would be one that nobody checks."""
    languages = {block["language"] for block in _BLOCK.finditer(page.read_text())}
    assert languages <= {"python", "console", "text", "ini"}
    assert page.read_text().count("```") == 2 * len(_BLOCK.findall(page.read_text()))


@pages
def test_links_lead_somewhere(page: Path) -> None:
    """Relative links name files that are there, and headings that are in them."""
    for link in _LINK.finditer(prose(page)):
        target, _, anchor = link["target"].partition("#")
        if re.match(r"https?:", target):
            continue
        file = (page.parent / target).resolve() if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links to {link['target']}"


@pages
def test_names_exist(page: Path) -> None:
    """A dotted name that a page mentions can be imported."""
    shim, telemetry = ROOT / "bgadapters/django", ROOT / "bgadapters/telemetry"
    files = [shim / "checks.py", shim / "installation.py", *telemetry.glob("*.py")]
    files += (ROOT / "bgadapters/engines").rglob("*.py")
    texts = "".join(file.read_text() for file in files)
    for name in _NAME.finditer(prose(page)):
        if f'"{name["name"]}"' not in texts:  # of a system check, of a task, in a trace
            pkgutil.resolve_name(name["name"])


def test_every_public_name_is_explained() -> None:
    """What the package offers is mentioned somewhere."""
    text = "".join(prose(page) for page in PAGES)
    assert [name for name in bgadapters.__all__ if not re.search(rf"`[^`]*\b{name}\b", text)] == []


def test_the_map_names_every_page() -> None:
    """Whoever starts at docs/index.md finds every page."""
    linked = {link["target"] for link in _LINK.finditer((DOCS / "index.md").read_text())}
    assert {page.name for page in DOCS.glob("*.md")} - linked == {"index.md"}


def table(page: Path, heading: str) -> dict[str, list[str]]:
    """The rows of the table below a heading, by the name in their first cell."""
    _, _, rest = page.read_text().partition(f"\n## {heading}\n")
    section = rest.partition("\n## ")[0]
    rows = _ROW.finditer(section)
    return {row["name"]: [cell.strip() for cell in row["cells"].split("|")] for row in rows}


def test_the_table_of_settings_is_whole() -> None:
    """Every setting with its default and its spelling in each framework, and no other."""
    rows = table(DOCS / "settings.md", "Settings")
    assert list(rows) == list(Settings._fields)
    for name, default in Settings()._asdict().items():
        assert rows[name][1] == f"`{default!r}`".replace("'", '"')
    spellings = table(DOCS / "settings.md", "Spelling")
    assert list(spellings) == list(Settings._fields)
    for name, cells in spellings.items():
        upper = name.upper()
        assert cells == [f"`{name}=`", f'`"{upper}"`', f'`"BACKGROUND_TASKS_{upper}"`']


@pytest.mark.parametrize("name", Settings._fields)
def test_the_table_says_what_a_setting_accepts(name: str) -> None:
    """The words of the table are those of the error."""
    accepted = table(DOCS / "settings.md", "Settings")[name][0]
    with pytest.raises(bgadapters.SettingsError, match=re.escape(accepted.replace("`", "'"))):
        parse_settings({name: object()})


def test_the_table_of_options_is_whole() -> None:
    """Every option with its default and what it accepts, and no other."""
    rows = table(DOCS / "options.md", "Options")
    assert list(rows) == list(Options._fields)
    given: OptionNames
    for name, default in Options()._asdict().items():
        shown = default.__name__ if isinstance(default, type) else repr(default)
        assert rows[name][1] == f"`{shown}`"
        given = {name: object()}  # type: ignore[misc]
        accepted = re.escape(rows[name][0]).replace(r"from\ 0", r"from\ 0( to \d+)?")
        with pytest.raises(TypeError, match=accepted):
            TaskOptions(**given)


def test_every_kind_of_event_is_explained() -> None:
    """The table of events has each kind that hooks meet, and no other."""
    section = (DOCS / "settings.md").read_text().partition("| `event.kind`")[2].partition("\n\n")[0]
    assert re.findall(r'^\| `"(\w+)"`', section, re.MULTILINE) == list(get_args(Kind))


def test_every_error_is_explained() -> None:
    """The table of errors has each public one, and what else it is."""
    rows = table(DOCS / "settings.md", "Errors")
    errors = {name for name in bgadapters.__all__ if name.endswith("Error")}
    assert set(rows) == errors - {"BackgroundTasksError"}
    for name, cells in rows.items():
        kind = getattr(bgadapters, name)
        assert issubclass(kind, bgadapters.BackgroundTasksError)
        builtins = [base.__name__ for base in kind.__mro__ if base.__module__ == "builtins"]
        assert builtins[0] == cells[0].strip("`")


def test_the_message_of_a_refused_setting() -> None:
    """It reads as the page shows it."""
    with pytest.raises(bgadapters.SettingsError) as refused:
        parse_settings({"max_workers": "4"})
    assert f"\n{refused.value}\n" in (DOCS / "settings.md").read_text()


# What the examples do.


@pytest.fixture
def snippet(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[str], ModuleType]]:
    """Import a file of docs/snippets; what it writes lands in a directory of its own."""
    monkeypatch.syspath_prepend(str(SNIPPETS))
    monkeypatch.chdir(tmp_path)
    yield importlib.import_module
    bgadapters.drain()
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(SNIPPETS)):
            del sys.modules[name]


Snippet = Callable[[str], ModuleType]


def asgi_client(app: Any) -> Any:
    from starlette.testclient import TestClient

    return TestClient(app)


def wsgi_client(app: Any) -> Any:
    from werkzeug.test import Client

    return Client(app)


def post(client: Any, path: str) -> int:
    """Send a request; under WSGI wait for its tasks, as the pages say."""
    if hasattr(client, "portal"):  # Starlette's, which returns when the tasks have run
        return int(client.post(path).status_code)
    with client.post(path) as response:
        status = int(response.status_code)
    bgadapters.drain()
    return status


def logged() -> list[str]:
    """What the tasks have written, and forget it."""
    log = Path("log.txt")
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line.removeprefix("notification for ") for line in lines]


CLIENTS = {
    "fastapi_first": asgi_client,
    "flask_first": wsgi_client,
    "starlette_app": asgi_client,
    "quart_app": asgi_client,
    "litestar_app": asgi_client,
    "bottle_app": wsgi_client,
}


@pytest.mark.parametrize("name", CLIENTS)
def test_first_task(snippet: Snippet, name: str) -> None:
    """The first example of each framework writes its notification."""
    client = CLIENTS[name](snippet(name).app)
    assert post(client, "/send-notification/ada") in {200, 201}
    assert logged() == ["ada: some notification"]


@pytest.mark.parametrize("name", ["fastapi_several", "flask_factory"])
def test_several_tasks(snippet: Snippet, name: str) -> None:
    """They run in the order added, sync and async ones alike."""
    module = snippet(name)
    client = asgi_client(module.app) if name.startswith("fastapi") else None
    client = client or wsgi_client(module.create_app())
    post(client, "/sign-up/ada")
    assert logged() == ["ada: signed up", "ada: welcome", "ada: done"]


@pytest.mark.parametrize("name", ["fastapi_service", "flask_service"])
def test_tasks_below_the_view(snippet: Snippet, name: str) -> None:
    """A service module that knows no framework adds to the queue of the response."""
    make = asgi_client if name.startswith("fastapi") else wsgi_client
    post(make(snippet(name).app), "/sign-up/ada")
    assert logged() == ["ada: signed up", "ada: welcome"]


def test_code_that_is_used_in_and_outside_of_requests(snippet: Snippet) -> None:
    """In a response's queue its task waits for the response; elsewhere it runs at once."""
    accounts = snippet("accounts")
    with bgadapters.BackgroundTasks() as tasks:
        accounts.sign_up("ada")
        assert len(tasks) == 1
    bgadapters.drain()
    accounts.sign_up("bob")
    bgadapters.drain()
    assert logged() == ["ada: signed up", "bob: signed up"]


def test_async_view_of_flask(snippet: Snippet) -> None:
    """An async view adds an async task."""
    post(wsgi_client(snippet("flask_async").app), "/sign-up/ada")
    assert logged() == ["ada: welcome"]


def test_websocket_of_flask_sock(snippet: Snippet) -> None:
    """A task starts when it is added, and a client that leaves discards none."""
    pytest.importorskip("flask_sock")
    simple_websocket = pytest.importorskip("simple_websocket")
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, snippet("flask_websocket").app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    try:
        ws = simple_websocket.Client(f"ws://127.0.0.1:{server.port}/orders/ada")
        ws.send("tea")
        assert ws.receive(timeout=20) == "ordered"
        bgadapters.drain()
        assert logged() == ["ada: tea"]
        ws.close()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_events_of_flask_socketio(snippet: Snippet) -> None:
    """A task starts when it is added."""
    pytest.importorskip("flask_socketio")
    module = snippet("flask_socketio_events")
    client = module.socketio.test_client(module.app)
    assert client.emit("order", "ada", callback=True) == "ordered"
    bgadapters.drain()
    assert logged() == ["ada: ordered"]


@pytest.mark.parametrize("name", ["serverless_fastapi", "serverless_flask"])
def test_handlers_of_lambda(snippet: Snippet, name: str) -> None:
    """Tasks have run when the handler returns."""
    pytest.importorskip("mangum" if name == "serverless_fastapi" else "apig_wsgi")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum's, for as long as the process
    try:
        event = {**lambda_event("1.0", "/sign-up/ada"), "httpMethod": "POST"}
        assert snippet(name).handler(event, None)["statusCode"] == 200
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    assert logged() == ["ada: signed up"]


def test_dependency_and_endpoint_share_a_queue(snippet: Snippet) -> None:
    """What the dependency adds runs before what the endpoint adds, each once."""
    asgi_client(snippet("fastapi_dependency").app).get("/report?user=eve")
    assert logged() == ["eve: asked for the report", "owner@example.com: report read"]


@pytest.mark.parametrize("name", ["fastapi_errors", "flask_errors"])
def test_errors(snippet: Snippet, name: str, our_log: OurLog) -> None:
    """A returned error runs the tasks, a raised one discards all but ``always`` tasks."""
    is_flask = name.startswith("flask")
    client = (wsgi_client if is_flask else asgi_client)(snippet(name).app)
    both = ["ada: ordered", "audit@example.com: order of ada"]
    assert post(client, "/order/ada") == 200
    assert logged() == both
    assert post(client, "/order/ada?quantity=0") == 400
    assert logged() == both
    assert not our_log.messages
    assert post(client, "/order/ada?stock=0") == 409
    handled = ["stock@example.com: sold out"] if is_flask else []
    assert logged() == [*both[1:], *handled]
    (warning,) = our_log.messages
    assert "1 background task(s) discarded" in warning
    assert "notifications.write_notification" in warning
    if not is_flask:
        assert f"\n{warning}\n" in (DOCS / "fastapi.md").read_text()


def test_an_exception_handler_has_tasks_of_its_own(snippet: Snippet) -> None:
    """FastAPI: the view's task is discarded, the handler's runs."""
    client = asgi_client(snippet("fastapi_handler").app)
    assert post(client, "/order/ada") == 409
    assert logged() == ["stock@example.com: sold out"]


@pytest.mark.parametrize("name", ["durable_fastapi", "durable_flask"])
def test_durable_tasks(snippet: Snippet, name: str) -> None:
    """They run, and nothing of them is kept after it."""
    module = snippet(name)
    if name == "durable_flask":
        assert post(wsgi_client(module.app), "/sign-up/ada") == 200
        module.app.extensions["bgadapters"].close()
    else:
        with asgi_client(module.app) as client:
            assert post(client, "/sign-up/ada") == 200
    assert logged() == ["ada: welcome"]
    assert StoredTasks("sqlite:///tasks.db").count() == {"waiting": 0, "failed": 0}


@pytest.mark.parametrize("name", ["celery_fastapi", "celery_flask", "celery_own"])
def test_celery(snippet: Snippet, name: str) -> None:
    pytest.importorskip("celery")
    module = snippet(name)
    module.celery_app.conf.task_always_eager = True  # Celery's own way to do without a broker
    path, what = ("/invoices", "invoice") if name == "celery_own" else ("/reports", "report")
    if name == "celery_flask":
        assert post(wsgi_client(module.app), f"{path}/ada") == 200
        module.app.extensions["bgadapters"].drain()
    else:
        with asgi_client(module.app) as client:
            assert post(client, f"{path}/ada") == 200
    assert logged() == [f"ada: your {what}"]


def test_celery_in_django(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    celery = pytest.importorskip("celery")
    app = celery.Celery("shop", set_as_current=False)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.celery", ModuleType("shop.celery"))
    monkeypatch.setattr(sys.modules["shop.celery"], "app", app, raising=False)
    module = snippet("celery_django")
    app.config_from_object(module, namespace="CELERY")
    settings = parse_settings({"engines": module.BACKGROUND_TASKS["ENGINES"]})
    assert settings.engines["heavy"].acknowledges


def test_a_durable_task_in_a_session(snippet: Snippet) -> None:
    """The commit lets it run; what fails with the request leaves nothing."""
    from starlette.testclient import TestClient

    module = snippet("durable_session")
    with TestClient(module.app, raise_server_exceptions=False) as client:
        assert [client.post("/sign-up/ada").status_code for _ in range(2)] == [200, 500]
    module.engine.dispose()
    assert logged() == ["ada: welcome"]
    assert StoredTasks(module.URL).count() == {"waiting": 0, "failed": 0}


def test_a_task_that_may_run_twice(snippet: Snippet) -> None:
    """A second run of the same task changes nothing."""
    module = snippet("durable_once")
    with contextlib.closing(module.connect()) as db, db:
        db.execute("create table accounts (name text, balance int)")
        db.execute("create table credited (id text primary key)")
        db.execute("insert into accounts values ('ada', 5)")
    for _ in range(2):
        with mock.patch.object(module, "current_task", return_value=SimpleNamespace(id="same")):
            module.credit("ada", 10)
    with bgadapters.BackgroundTasks() as tasks:
        tasks.options(durable=False).add_task(module.credit, "ada", 100)
    bgadapters.drain()
    with contextlib.closing(module.connect()) as db:
        assert db.execute("select balance from accounts").fetchall() == [(115,)]


def test_a_handler_for_a_store_that_fails(snippet: Snippet, tmp_path: Path) -> None:
    """It answers in its own words."""
    module = snippet("durable_errors")

    async def fail() -> None:
        raise bgadapters.StoreUnavailableError("away")

    module.app.post("/fails")(fail)
    response = asgi_client(module.app).post("/fails")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")


def test_looking_at_stored_tasks(
    snippet: Snippet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script retries the right ones."""
    store = SQLiteStore("sqlite:///tasks.db")
    store.open("somebody")
    for name in ("shop.charge", "shop.send"):
        store.write([Row(name, "queue", 0, time.time(), "{}", name)], ())
        store.write([], [Change(name, "fail", failure='{"reason": "no money"}')])
    store.close()
    snippet("durable_looking")
    assert "shop.charge 1 no money" in capsys.readouterr().out
    assert StoredTasks("sqlite:///tasks.db").count() == {"waiting": 1, "failed": 1}


def test_a_dependency_that_commits_before_the_response(snippet: Snippet) -> None:
    """The scope is one that FastAPI knows; the data is there when the response is."""
    import fastapi

    module = snippet("durable_scope")
    counts: list[int] = []

    def view(db: Any) -> None:
        db.execute("create table if not exists accounts (name text)")
        db.execute("insert into accounts values ('ada')")

    def count() -> None:
        with contextlib.closing(sqlite3.connect("accounts.sqlite3")) as db:
            counts.append(*db.execute("select count(*) from accounts").fetchone())

    view.__annotations__["db"] = module.Database
    app = fastapi.FastAPI()
    app.post("/")(view)

    @app.middleware("http")
    async def look(request: fastapi.Request, call_next: Any) -> Any:
        response = await call_next(request)  # its head is there, and nothing of it was sent
        count()
        return response

    assert asgi_client(app).post("/").status_code == 200
    assert counts == [1]


def test_the_settings_of_durable_tasks_in_django(snippet: Snippet) -> None:
    """The applications are there, and the setting is accepted."""
    module = snippet("django_site.durable")
    for name in module.INSTALLED_APPS[1:]:
        importlib.import_module(f"{name}.apps")
    given = {name.lower(): value for name, value in module.BACKGROUND_TASKS.items()}
    assert parse_settings(given).store == "django"


def test_every_action_on_stored_tasks_is_shown() -> None:
    """The page has each of the command's actions, as it is called."""
    parser = argparse.ArgumentParser(prog="python -m bgadapters")
    add_to(parser.add_subparsers())
    page = (DOCS / "durable-tasks.md").read_text()
    commands = re.findall(r"^\$ python -m bgadapters (.+)$", page, re.MULTILINE)
    called = {parser.parse_args(line.split()).action for line in commands}
    assert called == {"count", "list", "show", "retry", "discard", "purge"}


def test_tasks_start_after_the_commit(snippet: Snippet) -> None:
    """FastAPI: a task finds what the request's dependency has committed."""
    assert post(asgi_client(snippet("fastapi_session").app), "/sign-up/ada") == 200
    assert logged() == ["ada: 1 account"]


def test_an_upload_is_read_in_the_view(snippet: Snippet) -> None:
    """The task gets the content, not the file."""
    client = asgi_client(snippet("fastapi_upload").app)
    client.post("/count/ada", files={"file": b"three small words"})
    assert logged() == ["ada: 3 words"]


def test_tasks_finish_before_the_lifespan_ends(
    snippet: Snippet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a task uses of the lifespan is still there, though the server shuts down meanwhile."""
    module = snippet("fastapi_lifespan")
    send_mail = module.mail.send

    async def serve() -> None:
        started, shutting_down = asyncio.Event(), asyncio.Event()
        orders: asyncio.Queue[str] = asyncio.Queue()
        answers: asyncio.Queue[str] = asyncio.Queue()

        async def send_late(email: str) -> None:
            started.set()
            await shutting_down.wait()
            for _ in range(100):  # steps in which the lifespan could end
                await asyncio.sleep(0)
            await send_mail(email)

        async def receive() -> dict[str, Any]:
            order = await orders.get()
            if order == "lifespan.shutdown":
                shutting_down.set()
            return {"type": order}

        async def send(message: dict[str, Any]) -> None:
            answers.put_nowait(message["type"])

        async def request() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        monkeypatch.setattr(module.mail, "send", send_late)
        lifespan = asyncio.create_task(module.app({"type": "lifespan"}, receive, send))
        orders.put_nowait("lifespan.startup")
        assert await answers.get() == "lifespan.startup.complete"
        path = {"path": "/send-mail/ada", "raw_path": b"/send-mail/ada", "query_string": b""}
        scope = {"type": "http", "method": "POST", "headers": [], **path}
        call = asyncio.create_task(module.app(scope, request, send))
        await started.wait()
        orders.put_nowait("lifespan.shutdown")
        await asyncio.gather(lifespan, call)

    asyncio.run(serve())
    assert logged() == ["ada: mail client open: True"]
    assert not module.mail.is_open


@pytest.mark.parametrize("name", ["fastapi_settings", "flask_settings"])
def test_settings(snippet: Snippet, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings arrive: a full backlog is answered with 503, a failure reaches the hook."""
    module = snippet(name)
    if name.startswith("flask"):
        client, runtime = wsgi_client(module.app), module.app.extensions["bgadapters"]
    else:
        client = asgi_client(module.app)
        runtime = module.app.user_middleware[0].kwargs["runtime"]
    assert runtime.settings == Settings(
        max_workers=4, max_pending=200, on_full="reject", on_error=snippet("hooks").report
    )
    runtime.in_flight.reserve(200)
    assert post(client, "/send-notification/ada") == 503
    runtime.in_flight.free(200)
    assert post(client, "/send-notification/ada") == 200
    assert logged() == ["ada: some notification"]

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(module, "write_notification", fail)
    assert post(client, "/send-notification/ada") == 200
    (line,) = logged()
    assert line.startswith("ops@example.com: ")
    assert line.endswith(".fail: disk full")


def test_errors_of_graphql(snippet: Snippet, our_log: OurLog) -> None:
    """Strawberry: the task of a failed mutation is discarded."""
    pytest.importorskip("strawberry")
    from fastapi import FastAPI
    from strawberry.fastapi import GraphQLRouter

    app = FastAPI()
    init_app(app)
    app.include_router(GraphQLRouter(snippet("graphql_schema").schema), prefix="/graphql")
    with asgi_client(app) as client:
        for stock in (1, 0):
            query = f'mutation {{ order(email: "ada", stock: {stock}) }}'
            assert client.post("/graphql", json={"query": query}).status_code == 200
    assert logged() == ["ada: ordered"]
    assert len(our_log.messages) == 1


def test_task_middleware(snippet: Snippet) -> None:
    """A task has the tenant of its request, and its time is told."""
    client = asgi_client(snippet("fastapi_middleware").app)
    for tenant in ("one", "two"):
        client.post("/send-notification/ada", headers={"tenant": tenant})
        ours, told = logged()
        assert ours == f"ada: for {tenant}"
        assert told == "ops@example.com: fastapi_middleware.write: 0 s"


def test_the_health_check(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose tasks are late is not ready; one that has caught up is."""
    module = snippet("fastapi_health")
    client = asgi_client(module.app)
    assert client.get("/ready").json() == {"late": 0}
    snapshot = bgadapters.stats()[0]
    for late in ({"oldest_wait": 21.0}, {"pending": snapshot.capacity}):
        monkeypatch.setattr(
            module, "stats", lambda late=late: [snapshot._replace(**late), snapshot]
        )
        answer = client.get("/ready")
        assert (answer.status_code, answer.json()) == (503, {"late": 1})


def test_the_order_of_middlewares(
    snippet: Snippet, monkeypatch: pytest.MonkeyPatch, our_log: OurLog
) -> None:
    """Metrics end with the response, before its task; a failure below the others is seen."""
    module = snippet("fastapi_order")
    release = threading.Event()
    in_time: list[bool] = []

    def held(email: str, message: str = "") -> None:
        in_time.append(release.wait(10))

    monkeypatch.setattr(module, "write_notification", held)

    @module.app.get("/fails")  # type: ignore[untyped-decorator]
    def fails() -> None:
        bgadapters.add_task(held, "never")
        raise LookupError

    with asgi_client(module.app) as client:
        answer = client.post("/send-notification/ada")
        assert answer.headers["cache-control"] == "no-store"
        (metric,) = module.seconds.collect()
        assert [each.value for each in metric.samples if each.name.endswith("_count")] == [1]
        with pytest.raises(LookupError):
            client.get("/fails")
        release.set()
    assert in_time == [True]
    assert "1 background task(s) discarded" in our_log.warnings[0]


def test_asynchronous_task_middleware(snippet: Snippet) -> None:
    """It is entered around async tasks alone."""
    announced = snippet("async_middleware").Announced
    runtime = Runtime(parse_settings({"task_middleware": [announced]}))
    notifications = snippet("notifications")
    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        tasks.add_task(notifications.write_notification, "ada", "sync")
        tasks.add_task(notifications.send_welcome, "ada")
    assert runtime.drain() == []
    assert logged() == [
        "ada: sync",
        "ops@example.com: notifications.send_welcome begins",
        "ada: welcome",
    ]


def test_flask_context(snippet: Snippet) -> None:
    """A task has a fresh application context of the right application."""
    client = wsgi_client(snippet("flask_context").app)
    client.post("/order/ada", headers={"Accept-Language": "de"}).close()
    bgadapters.drain()
    assert logged() == ["ada: thanks from shop@example.com in de, g: False"]


@pytest.fixture
def moving(snippet: Snippet) -> Iterator[ModuleType]:
    pytest.importorskip("sqlalchemy")
    module = snippet("moving_fastapi")
    module.Base.metadata.create_all(module.engine)
    yield module
    module.engine.dispose()


def test_moving_from_fastapi(moving: ModuleType) -> None:
    """The task finds what the request has committed, with a session of its own."""
    assert post(asgi_client(moving.app), "/users/ada") == 200
    assert logged() == ["ada: welcome"]


def test_what_a_move_would_lose_is_warned_of(moving: ModuleType) -> None:
    """The user and the session of the request."""
    with moving.make_session() as db, bgadapters.BackgroundTasks() as tasks:
        user = moving.User(email="ada")
        db.add(user)
        for value in user, db:
            with pytest.warns(bgadapters.RequestScopedWarning):
                tasks.add_task(id, value)


def test_a_mock_replaces_add_task_where_the_page_says(moving: ModuleType) -> None:
    with mock.patch("bgadapters.BackgroundTasks.add_task") as add_task:
        post(asgi_client(moving.app), "/users/ada")
    add_task.assert_called_once_with(moving.welcome, 1)
    assert logged() == []


def test_moving_from_threads(snippet: Snippet) -> None:
    """The task has the values of its request."""
    client = wsgi_client(snippet("moving_threads").app)
    client.post("/sign-up/ada", headers={"User-Agent": "lynx"}).close()
    bgadapters.drain()
    assert logged() == ["ada: signed up with lynx"]


def test_moving_from_flask_executor(snippet: Snippet) -> None:
    """What the view waits for stays; what nobody waits for is a task."""
    pytest.importorskip("flask_executor")
    module = snippet("moving_executor")
    assert post(wsgi_client(module.app), "/order/ada/tea+bread") == 200
    assert logged() == ["ada: ordered for 8"]
    module.executor.shutdown()


def test_queue_as_starlette_background(snippet: Snippet) -> None:
    """A queue of the core is a ``background`` of Starlette."""
    post(asgi_client(snippet("starlette_background").app), "/sign-up/ada")
    assert logged() == ["ada: signed up", "ada: welcome"]


def test_any_application(snippet: Snippet) -> None:
    """Bare WSGI and ASGI applications, wrapped."""
    assert post(wsgi_client(snippet("wsgi_app").application), "/path") == 200
    assert logged() == ["ada@example.com: /path"]
    assert post(asgi_client(snippet("asgi_app").application), "/path") == 200
    assert logged() == ["ada@example.com: welcome"]


def test_a_shim_of_ones_own(snippet: Snippet) -> None:
    """The example of a shim hands the queue to views and discards on errors."""
    client = wsgi_client(snippet("bottle_shim").app)
    assert post(client, "/order/ada") == 200
    assert logged() == ["ada: ordered"]
    assert post(client, "/order/ada?stock=0") == 409
    assert logged() == []


def pytest_of_users(tmp_path: Path, *arguments: str, status: int = 0) -> str:
    """What pytest says of a snippet, run as in a project of its own."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    plugins = ("-p", "no:asyncio", "-p", "no:randomly")
    return run(
        "-m", "pytest", "-q", "-c", "pytest.ini", *plugins, *arguments, cwd=tmp_path, status=status
    ).stdout


@pytest.mark.slow
def test_recipes(tmp_path: Path) -> None:
    """The tests that the pages propose pass."""
    names = (
        "fastapi_test",
        "fastapi_test_async",
        "flask_test",
        "testing_fixture",
        "testing_strict",
    )
    files = [str(SNIPPETS / f"{name}.py") for name in names]
    assert "6 passed" in pytest_of_users(tmp_path, "-p", "no:django", *files)


@pytest.mark.slow
def test_recipe_without_the_plugin(tmp_path: Path) -> None:
    """There ``drain()`` does what the plugin would do."""
    arguments = ("-p", "no:bgadapters", "-p", "no:django", str(SNIPPETS / "testing_drain.py"))
    assert "1 passed" in pytest_of_users(tmp_path, *arguments)


@pytest.mark.slow
def test_recipe_for_django(tmp_path: Path) -> None:
    """The tests for pytest-django pass."""
    recipe = str(SNIPPETS / "django_site" / "pytest_recipe.py")
    assert "4 passed" in pytest_of_users(tmp_path, "--ds=django_site.settings", recipe)


@pytest.mark.slow
def test_what_a_failing_test_shows(tmp_path: Path) -> None:
    """The page shows what pytest says, and the test that ignores failures passes."""
    said = pytest_of_users(
        tmp_path, "-p", "no:django", str(SNIPPETS / "testing_failure.py"), status=1
    )
    assert "2 failed, 1 passed" in said
    page = (DOCS / "testing.md").read_text()
    for block in _BLOCK.finditer(page):
        if block["language"] == "text":
            assert block["text"] in said


def test_recipe_without_pytest(tmp_path: Path) -> None:
    """The block records, and runs what it is told to run."""
    result = run(str(SNIPPETS / "testing_block.py"), cwd=tmp_path)
    assert result.stdout.splitlines() == [
        "['/send-notification/ada@example.com', '/send-notification/bob@example.com']",
        "2",
    ]


def test_an_alert_on_failures_only(snippet: Snippet, our_log: OurLog) -> None:
    """It is sent when the view has raised, and knows why; the other task is discarded."""
    client = asgi_client(snippet("options_run_on").app)
    assert post(client, "/pay/ada") == 200
    assert logged() == ["ada: paid"]
    assert not our_log.messages
    assert post(client, "/pay/ada?amount=101") == 402
    alert = "ops@example.com: payment failed: HTTPException(status_code=402"
    (line,) = logged()
    assert line.startswith(alert)


def test_a_stream_that_flushes(snippet: Snippet) -> None:
    """Each part of the stream has had its task run before the next one is made, or soon after."""
    client = wsgi_client(snippet("options_flush").app)
    response = client.post("/import/ada", buffered=False)
    parts = response.iter_encoded()
    assert next(parts) == b"part 0\n"
    for _ in range(1000):
        if Path("log.txt").exists() and Path("log.txt").read_text().endswith("\n"):
            break
        threading.Event().wait(0.01)
    assert logged() == ["ada: part 0"]
    assert b"".join(parts) == b"part 1\npart 2\n"
    response.close()
    bgadapters.drain()
    assert logged() == ["ada: part 1", "ada: part 2"]


@pytest.mark.parametrize(
    ("name", "said", "written"),
    [
        ("options_timeout.py", [], ["ada@example.com: your export"]),
        (
            "script.py",
            ["The tasks run while the script goes on.", "Abandoned: []"],
            ["ada@example.com: first", "ada@example.com: welcome"],
        ),
        (
            "script_async.py",
            ["The tasks have run."],
            ["ada@example.com: first", "ada@example.com: signed up", "ada@example.com: welcome"],
        ),
    ],
)
def test_scripts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    said: list[str],
    written: list[str],
) -> None:
    """Scripts run their tasks and say so."""
    result = run(str(SNIPPETS / name), cwd=tmp_path)
    assert result.stdout.splitlines() == said
    monkeypatch.chdir(tmp_path)
    assert logged() == written


def test_django(tmp_path: Path) -> None:
    """The views, settings and command of the Django page pass the tests beside them."""
    arguments = ("django_site", "--settings", "django_site.settings")
    result = run("-m", "django", "test", *arguments, cwd=tmp_path)
    ran = re.search(r"Ran (\d+) tests", result.stderr)
    assert ran is not None, result.stderr
    assert int(ran[1]) >= 17


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("options_first", ["ada@example.com: do not forget", "grace@example.com: "]),
        ("options_retries", ["ada@example.com: accepted"]),
        ("options_later", ["ada@example.com: delay", "ada@example.com: time"]),
    ],
)
def test_options(name: str, expected: list[str], tmp_path: Path) -> None:
    """The examples of options run in a process of their own, which waits for their times."""
    run(str(SNIPPETS / f"{name}.py"), cwd=tmp_path)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert sorted(line.removeprefix("notification for ") for line in lines) == expected


def test_tasks_in_processes(snippet: Snippet) -> None:
    """They run elsewhere, in the application context that the initializer makes."""
    client = asgi_client(snippet("process_first").app)
    client.post("/primes/100")
    app = snippet("process_flask").create_app()
    wsgi_client(app).post("/offer/7").close()
    bgadapters.drain()
    assert Path("primes-100.txt").read_text() == "25"
    assert Path("offer-7.txt").read_text() == "An offer for order 7 of shop@example.com"
    (given,) = snippet("process_django").BACKGROUND_TASKS.values()
    assert parse_settings({"engines": given}).engines["process"].places == 2
    for each in runtimes():
        each.close()


def run(*arguments: str, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run Python with the snippets at hand and warnings as errors."""
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SNIPPETS), os.environ.get("PYTHONPATH", "")]),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_ADDOPTS": "-p no:cacheprovider",
    }
    environ.pop("DJANGO_SETTINGS_MODULE", None)
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=cwd,
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == status, f"{result.stdout}\n{result.stderr}"
    return result


def test_health(snippet: Snippet, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is well while nothing waits for long."""
    module = snippet("health")
    client = asgi_client(module.app)
    assert client.get("/health").json()["pending"] == 0
    late = bgadapters.stats()[-1]._replace(oldest_wait=61.0, pending=3)
    monkeypatch.setattr(module, "stats", lambda: [late])
    answer = client.get("/health")
    assert (answer.status_code, answer.json()) == (503, {"oldest_wait": 61.0, "pending": 3})


@pytest.mark.parametrize("name", ["json_logs", "structlog_logs"])
def test_fields_of_logs(snippet: Snippet, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A formatter writes them as the page says."""
    monkeypatch.setattr(logging, "basicConfig", lambda **_: None)  # pytest has configured it
    handler = snippet(name).handler
    stream = io.StringIO()
    handler.setStream(stream)
    logger = logging.getLogger("bgadapters")
    logger.addHandler(handler)
    try:
        with bgadapters.BackgroundTasks() as tasks:
            tasks.options(name="task").add_task(divmod, 1, 0)
        bgadapters.drain()
    finally:
        logger.removeHandler(handler)
    line = json.loads(stream.getvalue())
    rows = table(DOCS / "in-production.md", "Logs")
    assert (line["task_name"], line["exception_type"]) == ("task", "ZeroDivisionError")
    fields = {
        each for each in line if each.startswith(("task_", "queue_", "exception_", "request"))
    }
    assert fields <= set(rows)
