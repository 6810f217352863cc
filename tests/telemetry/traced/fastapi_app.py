"""FastAPI, with its own telemetry, and nothing else that traces."""

from fastapi import FastAPI

from bgadapters.fastapi import BackgroundTasks
from tests.telemetry.traced import work

work.export()
application = FastAPI()


@application.get("/add/{who}")
def add(who: str, background_tasks: BackgroundTasks) -> str:
    work.add_all(background_tasks.add_task, who)
    return "added"
