"""What can happen to a task because it runs in a process of its own."""

from bgadapters.adapters import BackgroundTasksError


class WorkerDiedError(BackgroundTasksError, RuntimeError):
    """The process that ran a task has ended before the task did."""
