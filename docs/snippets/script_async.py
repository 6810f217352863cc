import asyncio

from bgadapters import BackgroundTasks

import services
from notifications import write_notification


async def main():
    async with BackgroundTasks() as tasks:
        tasks.add_task(write_notification, "ada@example.com", message="first")
        services.sign_up("ada@example.com")  # its add_task() finds the queue
    print("The tasks have run.")


if __name__ == "__main__":
    asyncio.run(main())
