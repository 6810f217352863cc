"""The engine of local processes, for tasks that compute: ``engine="process"``."""

from bgadapters.engines.process.engine import ProcessEngine
from bgadapters.engines.process.errors import WorkerDiedError

__all__ = ["ProcessEngine", "WorkerDiedError"]
