from contextlib import contextmanager

from bgadapters import TaskInfo, TaskMiddleware


class PeeweeConnection(TaskMiddleware):
    """peewee: a connection that is opened for each task and closed after it."""

    def __init__(self, database):
        self.database = database

    @contextmanager
    def around(self, task: TaskInfo, captured: None):
        if task.is_async:  # it would be that of all async tasks, which share a thread
            yield
            return
        is_opened = self.database.connect(reuse_if_open=True)
        try:
            yield
        finally:
            if is_opened:
                self.database.close()
