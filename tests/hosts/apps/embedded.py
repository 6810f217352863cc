"""A program with a uvicorn in it and a handler of SIGTERM of its own: ``embedded.py PORT``."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvicorn
from fastapi import FastAPI

from bgadapters.fastapi import BackgroundTasks, init_app

app = FastAPI()
init_app(app, drain_timeout=0.1)


async def lasts() -> None:
    print("it runs", flush=True)
    await asyncio.sleep(3600)


@app.get("/")
async def view(background_tasks: BackgroundTasks) -> None:
    background_tasks.add_task(lasts)


async def main(port: int) -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)

    def end() -> None:
        server.should_exit = True

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
    await serving


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
