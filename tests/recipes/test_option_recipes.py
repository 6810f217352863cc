"""A debounce, and a limit for a supplier that answers slowly."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import bgadapters

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    monkeypatch.syspath_prepend(str(SNIPPETS))

    def load(name: str) -> Any:
        return importlib.reload(importlib.import_module(f"recipes.{name}"))

    return load


def test_a_product_is_indexed_when_it_was_left_alone(recipe: Callable[[str], Any]) -> None:
    module = recipe("debounced_reindex")
    indexed: list[int] = []
    really = module.reindex

    def reindex(pk: int) -> None:
        indexed.append(pk)
        really(pk)

    module.reindex, module.REST = reindex, 0.2
    with TestClient(module.app) as client:
        for name in ("A", "AB", "ABC"):
            client.put("/products/1", params={"name": name})
        client.put("/products/2", params={"name": "gone"})
        client.delete("/products/2")
        assert bgadapters.drain(10) == []
    assert sorted(indexed) == [1, 2]
    assert module.search_index == {1: "abc"}


@contextmanager
def serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Supplier:
    """A server that is slow, and sees how many come at one time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.peak = 0
        self.ordered: list[str] = []
        supplier = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                supplier.serve(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def serve(self, path: str) -> None:
        with self.lock:
            self.now += 1
            self.peak = max(self.peak, self.now)
        time.sleep(0.02)
        with self.lock:
            self.now -= 1
            self.ordered.append(path)


@pytest.fixture
def supplier() -> Iterator[Supplier]:
    made = Supplier()
    with serving(made.server):
        yield made


def test_a_slow_supplier_gets_two_orders_at_a_time(
    recipe: Callable[[str], Any], supplier: Supplier
) -> None:
    module = recipe("slow_supplier")
    module.SUPPLIER = f"http://127.0.0.1:{supplier.server.server_port}"
    client = module.app.test_client()
    for number in range(10):
        client.post(f"/orders/{number}").close()
    assert bgadapters.drain(20) == []
    assert sorted(supplier.ordered) == [f"/order/{number}" for number in range(10)]
    assert supplier.peak == 2


class Receiver:
    """A server of somebody's that answers a webhook as it is told."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = {}
        self.got: list[tuple[str, int]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers[self.path].pop(0)
                receiver.got.append((self.path, status))
                self.send_response(status)
                if status == 429:
                    self.send_header("Retry-After", "0.2")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None: ...  # noqa: A002

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    with serving(made.server):
        yield made


def test_a_webhook_is_posted_again_as_its_receiver_asks(
    recipe: Callable[[str], Any], receiver: Receiver
) -> None:
    module = recipe("webhook")
    receiver.answers = {"/busy": [429, 200], "/broken": [503, 200], "/gone": [404, 200]}
    with TestClient(module.app) as client:
        for path in receiver.answers:
            url = f"http://127.0.0.1:{receiver.server.server_port}{path}"
            client.post("/paid", params={"url": url})
        assert bgadapters.drain(20) == []
    got = {
        path: [status for each, status in receiver.got if each == path] for path in receiver.answers
    }
    assert got == {"/busy": [429, 200], "/broken": [503, 200], "/gone": [404]}


def test_the_progress_of_a_task_is_in_the_cache(recipe: Callable[[str], Any]) -> None:
    module = recipe("progress")
    with TestClient(module.app) as client:
        job = client.post("/jobs", json=["a", "b", "c"]).json()["job"]
        assert bgadapters.drain(20) == []
        assert client.get(f"/jobs/{job}").json() == {"percent": 100}
