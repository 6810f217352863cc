"""The same call sites on four engines: ``python -m examples.demo.engines``.

It starts each application of ``examples/engines`` with one setting after the other, and a worker
where the engine has one. It orders something, and shows when the mail and the thumbnail were made,
and in which process. It exits with 0 only if each order has its answer, its mail and its thumbnail,
where they belong. What needs RabbitMQ is left out, with a word, where that is not reachable.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from aiosmtpd.smtp import SMTP

from examples.demo.plan import Host
from examples.demo.record import DemoError
from examples.demo.server import Server, running

_GUNICORN = "--bind 127.0.0.1:0 --no-control-socket"
APPS = {
    "flask": Host(
        "Flask on gunicorn", "gunicorn --threads 4 examples.engines.flask_app:app", _GUNICORN
    ),
    "fastapi": Host("FastAPI on uvicorn", "uvicorn examples.engines.fastapi_app:app", "--port 0"),
    "django": Host(
        "Django on gunicorn",
        "gunicorn --threads 4 examples.engines.django_app:application",
        _GUNICORN,
    ),
}
BROKER = os.environ.get("CELERY_BROKER", "amqp://guest:guest@127.0.0.1:5672//")
_DEADLINE = 40.0
_EMAIL = "ada@example.org"


class Way(NamedTuple):
    """One value of the setting.

    Attributes:
        name: the value.
        title: what it is.
        worker: the command of its worker, for a module of an application; empty if it has none.
        options: as `Host.options`, for the worker.
        ready: what the worker logs when it is ready.
        is_elsewhere: whether its tasks run in another process than the view.
    """

    name: str
    title: str
    worker: str = ""
    options: str = ""
    ready: str = ""
    is_elsewhere: bool = True


WAYS = {
    "local": Way("local", "in the process that serves", is_elsewhere=False),
    "process": Way("process", "in a pool of processes beside it"),
    "huey": Way(
        "huey",
        "in a worker of Huey's, over a file of SQLite",
        "huey.bin.huey_consumer {module}.huey",
        "",
        "Huey consumer started",
    ),
    "celery": Way(
        "celery",
        "in a worker of Celery's, over RabbitMQ",
        "celery -A {module}:celery_app worker",
        "--concurrency 2 --loglevel INFO --without-mingle --without-gossip",
        "ready.",
    ),
}


class Seen(NamedTuple):
    """What was seen of one order.

    Attributes:
        answered: when the answer was whole, in seconds since the request.
        status: that of the answer.
        notes: what the processes have noted: when, in which, and what.
        mail: when the mail was there.
        has_thumbnail: whether there is a picture.
        log: the last lines of what has been started.
    """

    answered: float
    status: int
    notes: list[tuple[float, int, str]]
    mail: float | None
    has_thumbnail: bool
    log: list[str]


def main() -> int:
    """Run the demonstration; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo.engines", description=__doc__)
    parser.add_argument(
        "ways", nargs="*", metavar="ENGINE", help=f"{', '.join(WAYS)}; default: all"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.ways if name not in WAYS]:
        parser.error(f"no such engine: {', '.join(unknown)}; there are {', '.join(WAYS)}")
    return asyncio.run(_demonstrate([WAYS[name] for name in options.ways or WAYS]))


async def _demonstrate(ways: list[Way]) -> int:
    orders = failed = 0
    for way in ways:
        print(f"ENGINE={way.name}: {way.title}", flush=True)
        if way.name == "celery" and not _is_reachable(BROKER):
            print(f"  SKIPPED: no broker answers at {urlsplit(BROKER).hostname}\n", flush=True)
            continue
        for name, app in APPS.items():
            seen = await _visit(way, app)
            found = problems(way, seen)
            orders, failed = orders + 1, failed + bool(found)
            print(report(name, seen))
            if found:
                print(*(f"  WRONG: {problem}" for problem in found), sep="\n")
                print(*(f"  | {line}" for line in seen.log), sep="\n")
            print(flush=True)
    if failed:
        print(f"FAILED: {failed} of {orders} orders are not as promised, see above.")
        return 1
    print(f"PASSED: {orders} orders, each with its mail and its thumbnail, where they belong.")
    return 0


def _is_reachable(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "localhost", parts.port or 5672), 2).close()
    except OSError:
        return False
    return True


async def _visit(way: Way, app: Host) -> Seen:
    """Start an application and what its engine needs, order something, and see it done."""
    with TemporaryDirectory(prefix="demo-") as directory:
        timeline = Path(directory) / "timeline"
        async with AsyncExitStack() as stack:
            mails, port = await stack.enter_async_context(_mail_server())
            environ = {
                "ENGINE": way.name,
                "SMTP_ADDRESS": f"127.0.0.1:{port}",
                "ORDERS_DIR": directory,
                "TIMELINE": str(timeline),
                "HUEY_FILE": str(Path(directory) / "huey.db"),
                "HUEY_SECRET": os.urandom(16).hex(),
                "CELERY_BROKER": BROKER,
                "CELERY_QUEUE": f"bgadapters-demo-{os.getpid()}",
            }
            servers = []
            if way.worker:
                module = app.command.split()[-1].partition(":")[0]
                worker = Host("", way.worker.format(module=module), way.options)
                servers.append(await stack.enter_async_context(running(worker, environ, _DEADLINE)))
                await _until(lambda: any(way.ready in line for line in servers[0].log), servers)
            server = await stack.enter_async_context(running(app, environ, _DEADLINE))
            servers.append(server)
            listens = await server.port()
            began = time.time()
            status = await asyncio.to_thread(_order, listens)
            answered = time.time() - began
            thumbnail = Path(directory) / f"{_EMAIL}.png"
            with suppress(DemoError):  # it is told what is missing
                await _until(lambda: bool(mails) and _is_done(timeline), servers)
            notes = [(at - began, process, what) for at, process, what in _noted(timeline)]
            has_thumbnail = thumbnail.exists() and thumbnail.read_bytes().startswith(b"\x89PNG")
            log = [line for each in servers for line in each.log[-15:]]
            mail = mails[0] - began if mails else None
            return Seen(answered, status, notes, mail, has_thumbnail, log)
    raise AssertionError("a block that raises nothing ends")


async def _until(is_so: Any, servers: list[Server]) -> None:
    """Wait for something to be so.

    Raises:
        DemoError: it is not, after the deadline, or as a process has ended.
    """
    deadline = time.monotonic() + _DEADLINE
    while not is_so():
        if time.monotonic() > deadline or any(server.gone.is_set() for server in servers):
            raise DemoError("\n".join(line for server in servers for line in server.log[-15:]))
        await asyncio.sleep(0.02)


def _order(port: int) -> int:
    connection = HTTPConnection("127.0.0.1", port, timeout=_DEADLINE)
    try:
        connection.request("POST", f"/orders/{_EMAIL}")
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def _noted(timeline: Path) -> list[tuple[float, int, str]]:
    if not timeline.exists():
        return []
    notes = [json.loads(line) for line in timeline.read_text().splitlines()]
    return [(note["at"], note["process"], note["what"]) for note in notes]


def _is_done(timeline: Path) -> bool:
    return sum(what.endswith(" ends") for _, _, what in _noted(timeline)) == 2


@asynccontextmanager
async def _mail_server() -> AsyncIterator[tuple[list[float], int]]:
    """Receive mail; yields the times at which it came, and the port."""
    mails: list[float] = []

    class Mailbox:
        async def handle_DATA(self, *_: object) -> str:  # noqa: N802  aiosmtpd's name
            await asyncio.sleep(0.2)
            mails.append(time.time())
            return "250 OK"

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(Mailbox(), loop=loop), "127.0.0.1", 0)
    async with server:
        yield mails, server.sockets[0].getsockname()[1]


def report(name: str, seen: Seen) -> str:
    """Return the timeline of one order."""
    lines = [(seen.answered, f"the client has the answer, {seen.status}", 0)]
    lines += [(at, what, process) for at, process, what in seen.notes]
    if seen.mail is not None:
        lines.append((seen.mail, "the mail has come", 0))
    processes = list(dict.fromkeys(process for _, process, _ in seen.notes))
    shown = [f"  {APPS[name].name}"]
    for at, what, process in sorted(lines):
        where = f"   process {processes.index(process) + 1}" if process else ""
        shown.append(f"  {at * 1000:6.0f} ms  {what:34}{where}".rstrip())
    return "\n".join(shown)


def problems(way: Way, seen: Seen) -> list[str]:
    """Return what is not as promised."""
    found = [] if seen.status == 200 else [f"the answer was {seen.status}"]
    whats = [what for _, _, what in seen.notes]
    wanted = ("send_mail begins", "send_mail ends", "render_thumbnail begins")
    found += [f"{e} {whats.count(e)} times" for e in wanted if whats.count(e) != 1]
    if seen.mail is None:
        found.append("there is no mail")
    if not seen.has_thumbnail:
        found.append("there is no thumbnail")
    views = {process for _, process, what in seen.notes if what.startswith("view")}
    tasks = {process for _, process, what in seen.notes if not what.startswith("view")}
    if tasks and way.is_elsewhere == bool(tasks & views):
        found.append(f"tasks of {way.name!r} ran in the processes {tasks}, the view in {views}")
    ends = [at for at, _, what in seen.notes if what == "send_mail ends"]
    if any(at < seen.answered for at in ends):
        found.append("the answer came after the task")
    return found


if __name__ == "__main__":
    sys.exit(main())
