"""One process, as the process sees it that waits for its tasks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bgadapters.adapters import EngineUnavailableError
from bgadapters.engines.process.child import SPARED
from bgadapters.engines.process.errors import WorkerDiedError
from bgadapters.engines.process.raised import unpacked

_MAIN = str(Path(__file__).with_name("main.py"))
_SOON = 0.01  # seconds between two looks whether a process has ended that has hung up
_LOOKS = 100


class Worker:
    """A process that was started, and the connection to it.

    It has a session of its own: what a terminal sends to all processes of the server does not reach
    it, and what a task starts can be killed with it.

    Args:
        executable: the Python that it runs.
        lifeline: what tells it of the end of this process.

    Attributes:
        is_free: whether it can take a task.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, executable: str, lifeline: int) -> None:
        ours, its = socket.socketpair()
        ours.setblocking(False)
        # It is not to die of them before it can say so.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SPARED)
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own script
                [executable, "-P", _MAIN, str(its.fileno()), str(lifeline)],
                stdin=subprocess.DEVNULL,
                pass_fds=(its.fileno(), lifeline),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            its.close()
        self._connection = ours
        self._read = bytearray()
        self.is_free = False

    async def ready(self, said: Mapping[str, Any]) -> None:
        """Tell it how to begin; wait until it has.

        Raises:
            EngineUnavailableError: it has failed to.
        """
        heard = await self._hear() if await self._say(said) else None
        if heard is None:
            raise EngineUnavailableError(f"a process could not begin: {await self._how_it_ended()}")
        if "raised" in heard:
            cause = unpacked(heard["raised"])
            what = f"{type(cause).__name__}: {cause}"
            raise EngineUnavailableError(f"a process could not begin: {what}") from cause
        self.is_free = True

    async def take(self, payload: str, attempt: int) -> bool:
        """Give it a task; tell whether it has begun with it."""
        self.is_free = False
        if not await self._say({"payload": payload, "attempt": attempt}):
            return False
        return await self._hear() is not None

    async def result(self) -> None:
        """Wait for the task.

        Raises:
            WorkerDiedError: it has ended before the task did.
            BaseException: what the task has raised.
        """
        heard = await self._hear()
        if heard is None:
            pid = self._process.pid
            raise WorkerDiedError(f"process {pid}, which ran it, {await self._how_it_ended()}")
        self.is_free = True
        if "raised" in heard:
            raise unpacked(heard["raised"])

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def hang_up(self) -> None:
        """Have it end by itself."""
        self.is_free = False
        self._connection.close()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until it has ended, so long at most. Default: no limit, for one that was killed."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)

    def kill(self) -> None:
        """Kill it, and what its task has started. It is to be waited for."""
        self.hang_up()
        if self._process.returncode is None:  # else its number may be another one's by now
            with suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self.hang_up()
        self._process.returncode = 0  # or it would be waited for

    async def _say(self, what: Mapping[str, Any]) -> bool:
        line = json.dumps(what).encode() + b"\n"
        try:
            await asyncio.get_running_loop().sock_sendall(self._connection, line)
        except ConnectionError:
            return False
        return True

    async def _hear(self) -> dict[str, Any] | None:
        """Return what it says next; None if it has hung up."""
        loop, seen = asyncio.get_running_loop(), 0
        while (end := self._read.find(b"\n", seen)) < 0:
            seen = len(self._read)  # nothing is looked at twice: what a task has raised may be long
            try:
                data = await loop.sock_recv(self._connection, 65_536)
            except ConnectionError:
                return None
            if not data:
                return None
            self._read += data
        heard: dict[str, Any] = json.loads(self._read[:end])
        del self._read[: end + 1]
        return heard

    async def _how_it_ended(self) -> str:
        for _ in range(_LOOKS):
            if not self.is_alive():
                break
            await asyncio.sleep(_SOON)
        code = self._process.poll()
        if code is None:
            return "has hung up"
        if code >= 0:
            return f"has ended with status {code}"
        name = signal.Signals(-code).name
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"was killed by {name}{memory}"
