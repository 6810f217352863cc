"""Clients that ask for one task with each request, and note which responses were complete."""

from __future__ import annotations

import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tests.hosts.client import Broken, Client
from tests.hosts.journal import LOADED, Journal
from tests.hosts.servers import HOSTS, Host, Server

_APPS = {
    "flask_app:application": "load_flask:application",
    "django_app:wsgi_application": "load_django:wsgi_application",
    "django_app:asgi_application": "load_django:asgi_application",
    "fastapi_app:configured_application": "load_fastapi:application",
}


def host_under_load(name: str) -> Host:
    """A host with the application of this module's tests."""
    host = HOSTS[name]
    app = _APPS[host.framework.app]
    return host._replace(framework=host.framework._replace(app=app))


class PlainServer(Server):
    """A server without Python's development mode, which is slow and keeps tracebacks."""

    def _command(self, environ: Mapping[str, str]) -> list[str]:
        command = super()._command(environ)
        return [each for each in command if each not in ("-X", "dev")]


class Clients:
    """Threads that request ``/task`` over kept connections, each time under a new name.

    A context manager: the threads work until the end of its block.

    Args:
        server: whom they ask.
        threads: how many.
    """

    def __init__(self, server: Server, threads: int = 8) -> None:
        self._server = server
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        self._changed = threading.Condition()
        self._names = itertools.count(1)
        self._stopped = False
        self.complete: set[str] = set()  # guarded by _changed
        self.broken: set[str] = set()  # guarded by _changed

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for thread in self._threads:
            thread.join()

    def wait_for(self, total: int) -> None:
        """Wait until so many responses were complete."""
        with self._changed:
            has_come = self._changed.wait_for(lambda: len(self.complete) >= total, 60)
        assert has_come, f"{len(self.complete)} responses of {total}\n{self._server.log()[-3000:]}"

    def request_held(self, run: str, count: int) -> None:
        """Get complete responses for tasks that the event log holds."""
        with self._client() as client:
            goal = len(self.complete) + count
            while len(self.complete) < goal:
                self._request(client, f"&run={run}")

    def _client(self) -> Client:
        return Client(self._server.port, reuses=self._server.host.keeps_alive)

    def _work(self) -> None:
        with self._client() as client:
            while not self._stopped:
                self._request(client)

    def _request(self, client: Client, held: str = "") -> None:
        number = next(self._names)
        kind = "async" if number % 2 else "sync"
        seconds = 0.3 if number % 20 < 2 else 0.02  # some outlast the worker that has them
        name = str(number)
        try:
            target = f"/task?name={name}&kind={kind}&seconds={seconds}{held}"
            is_complete = client.request("GET", target).body == name.encode()
        except (OSError, Broken, IndexError, ValueError):  # the last two: it ended within a line
            is_complete = False
        with self._changed:
            (self.complete if is_complete else self.broken).add(name)
            self._changed.notify_all()
        if not is_complete:
            client.close()
            time.sleep(0.02)  # a server that refuses connections tells nobody when it takes them

    def check(self, journal: Journal) -> None:
        """Each complete response has had its task, once; a broken one had it once or never."""
        finished = journal.finished()
        lost = sorted(self.complete - finished.keys(), key=int)
        twice = {name: times for name, times in finished.items() if times > 1}
        unknown = finished.keys() - self.complete - self.broken
        told = (
            f"{len(self.complete)} responses complete, {len(self.broken)} broken, "
            f"{len(finished)} tasks finished\n{self._server.log()[-4000:]}"
        )
        assert not twice, f"finished more than once: {twice}; {told}"
        assert not unknown, f"finished without a request: {unknown}; {told}"
        assert not lost, f"never finished though the response was complete: {lost}; {told}"


def workers(server: Server) -> tuple[int, list[int]]:
    """How many processes have loaded the application so far, and which of them are there."""
    pids = [int(pid) for pid in re.findall(rf"{LOADED} (\d+)", server.log())]
    return len(pids), [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def wait_for_workers(server: Server, loaded: int, alive: int = 2) -> None:
    """Wait until so many processes have loaded the application, and so many are there."""
    deadline = time.monotonic() + 30
    while True:  # a file has no other way to tell that it has grown, nor has a process
        so_far, there = workers(server)
        if so_far >= loaded and len(there) == alive:
            return
        assert time.monotonic() < deadline, f"{so_far} loaded, {there}\n{server.log()[-4000:]}"
        time.sleep(0.05)


class Pipeline:
    """One connection that sends many requests before it reads their responses."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, names: range) -> None:
        """Send a request for each name and read as many complete responses."""
        self._socket.sendall(
            b"".join(
                b"GET /task?name=%d&kind=%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
                % (name, b"async" if name % 2 else b"sync")
                for name in names
            )
        )
        received = b""
        while not received.endswith(b"\r\n\r\n%d" % names[-1]):
            part = self._socket.recv(65536)
            assert part, f"the server hung up after {received[-500:]!r}"
            received += part
        assert received.count(b"HTTP/1.1 200 OK\r\n") == len(names), received[:500]


def settled_state(server: Server) -> dict[str, Any]:
    """What the server's process holds when its tasks have run, told by itself.

    Timers of the server's own keep the context of a request for a second, and what looks at who
    holds the interpreter's lock has a thread and a file for as long as it looks.
    """
    deadline = time.monotonic() + 20
    with Client(server.port) as client:
        while True:
            told: dict[str, Any] = json.loads(client.request("GET", "/state").body)
            is_settled = not told["unfinished"] and told["queues"] <= 1
            is_settled = is_settled and "bgadapters-lock-watch" not in told["threads"]
            if is_settled or time.monotonic() > deadline:
                return told
            time.sleep(0.2)
