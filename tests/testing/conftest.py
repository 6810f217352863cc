"""The runtimes of the core's tests, whose books are checked."""

from tests.core.conftest import log, make_runtime, queue, runtime

__all__ = ["log", "make_runtime", "queue", "runtime"]
