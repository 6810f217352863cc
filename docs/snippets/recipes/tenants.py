from contextlib import asynccontextmanager

from bgadapters import TaskInfo, TaskMiddleware
from django.db import connection
from django_tenants.utils import schema_context

from recipes.orm_thread import in_orm_thread


class TenantSchema(TaskMiddleware):
    """django-tenants: tasks run in the schema of the tenant whose request has added them."""

    def capture(self, task: TaskInfo) -> str:
        return connection.schema_name

    def around(self, task: TaskInfo, captured: str):
        return in_schema(captured) if task.is_async else schema_context(captured)


@asynccontextmanager
async def in_schema(schema: str):
    async with in_orm_thread(schema_context(schema)):
        with schema_context(schema):  # of the task itself, for who asks connection.schema_name
            yield
