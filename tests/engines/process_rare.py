"""Imported by a task in its own process, and nowhere else."""


class RareError(LookupError):
    """The process that waits for the task does not know it."""
