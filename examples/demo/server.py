"""A server in a process of its own, started and stopped as its users do."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from examples.demo.plan import Host
from examples.demo.record import DemoError

_ROOT = Path(__file__).parents[2]
_MEANT_FOR_OTHERS = ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "DJANGO_SETTINGS_MODULE")


@asynccontextmanager
async def running(host: Host, environ: Mapping[str, str], deadline: float) -> AsyncIterator[Server]:
    """Run the server of a host; however the block ends, no process of it is left.

    Args:
        host: what to run.
        environ: variables to add to this process's own.
        deadline: seconds that it has for stopping when asked to; then it is killed.
    """
    inherited = {k: v for k, v in os.environ.items() if k not in _MEANT_FOR_OTHERS}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *shlex.split(f"{host.command} {host.options}"),
        cwd=_ROOT,
        env={**inherited, "PYTHONUNBUFFERED": "1", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        limit=2**20,  # characters in a line of its log
        start_new_session=True,  # a Ctrl-C is the demonstration's affair
    )
    server = Server(process)
    try:
        yield server
    finally:
        await server.stop(deadline)


class Server:
    """A running server.

    Args:
        process: its first process, which leads a process group and logs into a pipe.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.log: list[str] = []
        self.gone = asyncio.Event()  # the log has ended: no process of the server is left
        self.was_killed = False
        self._process = process
        self._logged = asyncio.Event()
        self._reader = asyncio.create_task(self._read_log())

    async def port(self) -> int:
        """Wait until the server says where it listens."""
        while True:
            for line in self.log:
                if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                    return int(found[1])
            if self.gone.is_set():
                raise DemoError("the server ended before it listened")
            self._logged.clear()
            await self._logged.wait()

    def kill(self) -> None:
        """Kill it, without a word."""
        os.killpg(self._process.pid, signal.SIGKILL)

    async def stop(self, deadline: float) -> None:
        """Ask the server to stop and wait until it did; kill it if that takes too long."""
        try:
            if self._process.returncode is None:
                self._process.terminate()
            async with asyncio.timeout(deadline):
                await self.gone.wait()
        except TimeoutError:
            self.was_killed = True
        finally:
            if not self.gone.is_set():
                with suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def _read_log(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.log.append(line.decode(errors="replace").rstrip())
            self._logged.set()
        self.gone.set()
        self._logged.set()
