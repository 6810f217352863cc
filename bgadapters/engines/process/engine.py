"""What users see of the engine of local processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from threading import Lock
from typing import TYPE_CHECKING, Any

from bgadapters.adapters import (
    BackgroundTasksError,
    Options,
    RunningEngine,
    callable_name,
    threads_are_greenlets,
)

if TYPE_CHECKING:
    from bgadapters.adapters import Run
    from bgadapters.engines.process.pool import Pool


class ProcessEngine(RunningEngine):
    """Runs tasks in processes of this machine that belong to this one.

    Each is a new Python, which imports the module of the function and nothing else of the
    application. They begin with the first tasks, and end with this process at the latest.

    Args:
        max_processes: how many there are at most. Default: one for each processor that this process
            may use.
        idle: seconds after which a process ends that has nothing to do. Default: 60.
        initializer: what each process calls before its first task: ``"module:function"``. What it
            returns, if that can be called, makes the context manager that is entered around each
            task, such as the ``app_context`` of a Flask application. Default: with Django its
            settings are loaded, with others nothing is done.
        executable: the path of the Python to be run. Default: that which runs here.
        timeout: seconds that a process may take to begin, its initializer included. Default: 60.

    Raises:
        TypeError, ValueError: an argument is none that is accepted.
    """

    def __init__(
        self,
        *,
        max_processes: int | None = None,
        idle: float = 60.0,
        initializer: str | None = None,
        executable: str | None = None,
        timeout: float = 60.0,
    ) -> None:
        super().__init__(timeout=timeout)
        self.places = _number(max_processes)
        self._idle = _seconds("idle", idle)
        self._initializer = _path(initializer)
        self._executable = executable
        self._lock = Lock()
        self._pool: Pool | None = None  # guarded by _lock

    def check(self, func: Any, options: Options) -> None:  # noqa: ARG002
        """Check that there can be processes."""
        if threads_are_greenlets():
            raise TypeError(
                f"cannot add {callable_name(func)} to an engine of processes: gevent has patched "
                "this process, and its hub would wait for them. Use another worker class, such as "
                "gthread, or add it with engine='local'"
            )

    def place(self) -> AbstractAsyncContextManager[Run]:
        """Return what has a process ready."""
        return self._started().place()

    def close(self) -> None:
        """End the processes."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def reset_after_fork(self) -> None:
        """In a forked child: leave the processes to the parent."""
        pool, self._pool = self._pool, None
        self._lock = Lock()
        if pool is not None:
            pool.forget()

    def _started(self) -> Pool:
        with self._lock:
            if self._pool is None:
                from bgadapters.engines.process.pool import Pool

                executable = self._executable or _executable()
                self._pool = Pool(executable, self._said(), self._idle, self.timeout)
            return self._pool

    def _said(self) -> Mapping[str, Any]:
        """What a process is told as it begins."""
        given, in_child = self._initializer, self.runtime.hooks.in_child
        in_child = in_child if given is None else (given,)
        return {"path": sys.path, "parent": os.getpid(), "initializer": in_child}


def _executable() -> str:
    """The Python that runs here: that of a server which has Python inside is none."""
    beside = os.path.join(sys.prefix, "bin")
    names = f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3", "python"
    for path in (sys.executable, *(os.path.join(beside, name) for name in names)):
        if (
            path
            and os.path.basename(path).startswith(("python", "pypy"))
            and os.access(path, os.X_OK)
        ):
            return path
    raise BackgroundTasksError(
        f"no Python was found for the processes: {sys.executable!r} is none, and there is none in "
        f"{beside}. Name it: ProcessEngine(executable='/usr/bin/python3')"
    )


def _number(given: int | None) -> int:
    value: Any = given
    if value is None:
        return (
            len(os.sched_getaffinity(0))
            if hasattr(os, "sched_getaffinity")
            else os.cpu_count() or 1
        )
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TypeError(f"max_processes= accepts a whole number from 1, or None, not {value!r}")
    return value


def _seconds(name: str, given: float) -> float:
    value: Any = given
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{name}= accepts a number of seconds from 0, not {value!r}")
    return float(value)


def _path(given: str | None) -> str | None:
    value: Any = given
    if value is None:
        return None
    if not isinstance(value, str) or not all(value.partition(":")):
        raise TypeError(f"initializer= accepts 'module:function', not {value!r}")
    return value
