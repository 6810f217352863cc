"""What the tests of all engines need of one: its broker, its worker, and ways to be away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

from bgadapters.engines import Engine
from tests.engines.work import LOG, Line, lines
from tests.running import ROOT

PATIENCE = 40.0


def until(is_so: Callable[[], object], why: Callable[[], str] = str) -> None:
    """Wait for what nobody tells: that a file has changed, or a table.

    Args:
        is_so: whether it is so.
        why: what to say if it does not come to pass. Default: nothing.
    """
    deadline = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < deadline, why()
        time.sleep(0.02)


class Away:
    """An engine whose broker does not answer.

    Attributes:
        engine: the engine.
        end: has its broker answer from now on.
    """

    def __init__(self, engine: Engine, end: Callable[[], object]) -> None:
        self.engine = engine
        self.end = end


class Bench(ABC):
    """One engine with a broker, or a part of one, to itself.

    Args:
        directory: where files of the test are.

    Attributes:
        ways: the ways in which its broker may be away; see `away`.
        own: a task object of the engine's own, which calls `work.say` with ``"own"`` and its
            argument; None if it has none.
        has_another: whether its worker has the other application of `work.application` as well.
    """

    ways: ClassVar[Sequence[str]] = ("black hole", "refused")
    own: Any = None
    has_another = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "work.log"

    # To be defined.

    @abstractmethod
    def engine(self, **given: Any) -> Engine:
        """Make an engine that sends to this broker, in this process."""

    @abstractmethod
    def worker(self) -> AbstractContextManager[Any]:
        """Start a process that runs what was sent, one task at a time; end it with the block.

        Its applications are those of `work.application`.
        """

    @abstractmethod
    def waiting(self) -> int:
        """Return how many tasks wait in the broker."""

    @abstractmethod
    def forge(self, payload: str) -> str:
        """Put a message into the broker as `Engine.send` does; return the id that it has there."""

    @abstractmethod
    def has_failed(self, id: str) -> bool:  # noqa: A002
        """Whether the engine itself has a task for failed, as its own tools tell."""

    def engine_at(self, port: int, **given: Any) -> Engine:
        """Make an engine whose broker is at a port of this machine."""
        raise NotImplementedError

    @property
    def port(self) -> int:
        """Where its broker is, on this machine."""
        raise NotImplementedError

    def close(self) -> None:  # noqa: B027  most need not
        """Remove what is left in the broker."""

    # What the tests use.

    @contextmanager
    def away(self, how: str, **given: Any) -> Iterator[Away]:
        """Make an engine whose broker is away.

        Args:
            how: ``"refused"``, nobody listens at its port; ``"black hole"``, somebody does and
                never answers.
            given: what the engine is given.
        """
        with ExitStack() as stack:
            listener = stack.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            if how == "black hole":
                listener.listen(128)
            port = listener.getsockname()[1]
            engine = self.engine_at(port, **given)

            def end() -> None:
                listener.close()
                stack.enter_context(forwarded(port, self.port))

            yield Away(engine, end)

    def lines(self, id: str = "", kind: str = "") -> list[Line]:  # noqa: A002
        """Return what has happened in workers, to a task, of a kind."""
        found = lines(self.file)
        return [each for each in found if id in ("", each.id) and kind in ("", each.kind)]

    def wait_for(self, id: str, kind: str, count: int = 1) -> list[Line]:  # noqa: A002
        """Wait until something has happened to a task so many times; return it."""
        until(lambda: len(self.lines(id, kind)) >= count, self.said)
        return self.lines(id, kind)

    def said(self) -> str:
        """Return what there is to find out why something did not happen."""
        logs = [each.read_text()[-4000:] for each in self.directory.glob("*.out")]
        return "\n".join([*map(str, lines(self.file)), *logs])

    @contextmanager
    def process(self, *command: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start a process of ``python``; end it with SIGTERM, and if need be with SIGKILL.

        What it prints is in a file of the directory. It writes its lines to the log of the bench.
        """
        number = len(list(self.directory.glob("*.out")))
        with (self.directory / f"{number}.out").open("wb") as output:
            started = subprocess.Popen(
                [sys.executable, *command],
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(each for each in sys.path if each),
                    LOG: str(self.file),
                    **environ,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield started
        finally:
            started.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                started.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@contextmanager
def forwarded(port: int, to: int) -> Iterator[None]:
    """Have what is sent to a port of this machine go to another one, by a process of its own."""
    code = "from tests.engines.forward import main; main()"
    command = [sys.executable, "-c", code, str(port), str(to)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as started:
        try:
            assert started.stdout is not None
            assert started.stdout.readline() == b"listens\n"
            yield
        finally:
            started.kill()
