import time
from contextlib import contextmanager

from bgadapters import TaskInfo

from notifications import write_notification


@contextmanager
def timed(task: TaskInfo):
    began = time.monotonic()
    try:
        yield
    finally:
        seconds = time.monotonic() - began
        write_notification("ops@example.com", message=f"{task.name}: {seconds:.0f} s")
