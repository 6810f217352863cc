"""Visit one host after the other, show what was seen, and give a verdict."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable
from contextlib import AsyncExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from examples.demo.connection import Connection
from examples.demo.plan import HOSTS, REQUESTS, Host, Request
from examples.demo.record import DemoError, Record
from examples.demo.report import HEADER, report
from examples.demo.server import Server, running
from examples.demo.services import listener, mail_server
from examples.demo.verdict import problems

T = TypeVar("T")


def main() -> int:
    """Run the demonstration; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=__doc__)
    parser.add_argument(
        "hosts", nargs="*", metavar="HOST", help=f"{', '.join(HOSTS)}; default: all of them"
    )
    parser.add_argument(
        "--deadline", type=float, default=30, metavar="SECONDS", help="for each wait; default: 30"
    )
    options = parser.parse_args()
    if unknown := [name for name in options.hosts if name not in HOSTS]:
        parser.error(f"no such host: {', '.join(unknown)}; there are {', '.join(HOSTS)}")
    hosts = [HOSTS[name] for name in options.hosts or HOSTS]
    try:
        return asyncio.run(_demonstrate(hosts, options.deadline))
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except asyncio.CancelledError:
        code = 128 + signal.SIGTERM
    print("\nInterrupted; everything was stopped.")
    return code


async def _demonstrate(hosts: list[Host], deadline: float) -> int:
    this = asyncio.current_task()
    assert this is not None
    for stop in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(stop, this.cancel)
    print(HEADER, flush=True)
    failed = 0
    for host in hosts:
        record, log = await _visit(host, deadline)
        found = problems(record)
        failed += bool(found)
        print(report(record))
        if found:
            print(*(f"  WRONG: {problem}" for problem in found), sep="\n")
            print(*(f"  | {line}" for line in log[-20:]), sep="\n")
        print(flush=True)
    tasks = len(hosts) * sum(len(request.tasks) for request in REQUESTS)
    if failed:
        print(
            f"FAILED: {failed} of {len(hosts)} host(s) did not keep what was promised, see above."
        )
        return 1
    print(f"PASSED: {tasks} tasks ran once each, in order, and nothing waited for them.")
    return 0


async def _visit(host: Host, deadline: float) -> tuple[Record, list[str]]:
    """Start a host, send it the requests, see its tasks through and stop it."""
    record = Record()
    connection: Connection | None = None

    def look() -> None:
        if connection is not None:
            connection.look()

    async with AsyncExitStack() as stack:
        log_file = Path(stack.enter_context(TemporaryDirectory(prefix="demo-"))) / "notifications"
        mail_port = await stack.enter_async_context(mail_server(record, deadline))
        environ = {
            "ON_TASK_EVENT": "examples.demo.hook.tell",
            "DEMO_PORT": str(await stack.enter_async_context(listener(record, look))),
            "NOTIFICATIONS_LOG": str(log_file),
            "SMTP_ADDRESS": f"127.0.0.1:{mail_port}",
            "TMPDIR": str(log_file.parent),
        }
        async with running(host, environ, deadline) as server:
            print(f"{host.name}: {host.command}", flush=True)
            try:
                port = await _within(deadline, server.port(), "the server to listen")
                with closing(Connection(port)) as connection:
                    await _exchange_all(connection, record, deadline)
                    await _within(deadline, _ended(record, server), "every task to end")
            except (DemoError, OSError) as exc:
                record.problems.append(str(exc))
        # The server is gone: what it had left to do, such as running a task twice, is done.
        if server.was_killed:
            record.problems.append("the server did not stop when asked to, and was killed")
        if log_file.exists():
            record.log += log_file.read_text(encoding="utf-8").splitlines()
    return record, server.log


async def _exchange_all(connection: Connection, record: Record, deadline: float) -> None:
    # Not measured, and a 404: a server that answers has done its first imports.
    warm_up = connection.send("GET", Request("/", "", ()))
    await _within(deadline, connection.complete(warm_up), "the server to answer at all")
    for request in REQUESTS:
        exchange = connection.send("POST", request)
        record.exchanges.append(exchange)
        await _within(deadline, connection.complete(exchange), f"the response to {request.target}")


async def _ended(record: Record, server: Server) -> None:
    ended = asyncio.ensure_future(record.all_ended.wait())
    gone = asyncio.ensure_future(server.gone.wait())
    try:
        await asyncio.wait((ended, gone), return_when=asyncio.FIRST_COMPLETED)
        if not record.all_ended.is_set():
            raise DemoError("the server ended before its tasks did")
    finally:
        ended.cancel()
        gone.cancel()


async def _within(deadline: float, waiting: Awaitable[T], what: str) -> T:
    try:
        return await asyncio.wait_for(waiting, deadline)
    except TimeoutError:
        raise DemoError(f"waited {deadline:g} s in vain for {what}") from None


if __name__ == "__main__":
    sys.exit(main())
