from contextlib import asynccontextmanager

from asgiref.sync import sync_to_async


@asynccontextmanager
async def in_orm_thread(manager):
    """Enter a plain context manager where an async task uses Django's ORM."""
    await sync_to_async(manager.__enter__)()
    try:
        yield
    finally:
        await sync_to_async(manager.__exit__)(None, None, None)
