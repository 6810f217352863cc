"""The backend ``django_tasks_db``, whose database is one of its options."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections
from django_tasks_db import DatabaseBackend

from tests.django.tasks_bench import used


class Backend(DatabaseBackend):
    """Its threads are not those of a framework that closes connections: it does so by itself."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        database: str = self.options["database"]
        token = used.set(database)
        try:
            return super().enqueue(task, args, kwargs)
        finally:
            connections[database].close()
            used.reset(token)

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        return await sync_to_async(self.enqueue)(task, args, kwargs)
