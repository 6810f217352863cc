import asyncio

from bgadapters import BackgroundTasks, current_task

from notifications import write_notification


async def export(email):
    if current_task().attempt == 1:
        await asyncio.sleep(60)  # a supplier that does not answer
    write_notification(email, message="your export")


with BackgroundTasks() as background_tasks:
    limited = background_tasks.options(timeout=0.2, retries=1, backoff=0.01)
    limited.add_task(export, "ada@example.com")
