import asyncio
from contextlib import asynccontextmanager, nullcontext

from bgadapters import TaskInfo, TaskMiddleware

from notifications import write_notification


class Announced(TaskMiddleware):
    def around(self, task: TaskInfo, captured: None):
        return announced(task) if task.is_async else nullcontext()


@asynccontextmanager
async def announced(task: TaskInfo):
    await asyncio.to_thread(write_notification, "ops@example.com", f"{task.name} begins")
    yield
