from contextlib import asynccontextmanager

from asgiref.sync import sync_to_async
from django.db import connection


@asynccontextmanager
async def in_orm_thread(manager):
    """Enter a plain context manager where an async task uses Django's ORM."""

    def enter():
        _ = connection.alias  # a task keeps its thread while it has a connection object there
        manager.__enter__()

    await sync_to_async(enter)()
    try:
        yield
    finally:
        await sync_to_async(manager.__exit__)(None, None, None)
