"""Where the brokers are of the applications that servers are started with."""

from __future__ import annotations

import json
from typing import NamedTuple

WHERE = "TEST_ENGINES_WHERE"


class Where(NamedTuple):
    """Where the brokers are.

    Attributes:
        directory: that of Huey's file, and of Django's.
        queue: the queue of Celery in RabbitMQ.
        database: the URL of that of Procrastinate.
        nowhere: a port of this machine at which nobody answers.
    """

    directory: str
    queue: str
    database: str
    nowhere: int

    def environ(self) -> dict[str, str]:
        """The environment of a process that is to know it."""
        return {WHERE: json.dumps(self)}
