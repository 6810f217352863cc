from typing import Annotated

from bgadapters.fastapi import BackgroundTasks
from fastapi import Depends, FastAPI

from notifications import write_notification

app = FastAPI()


def audit(background_tasks: BackgroundTasks, user: str = "nobody"):
    background_tasks.add_task(write_notification, user, message="asked for the report")


@app.get("/report")
async def report(background_tasks: BackgroundTasks, _: Annotated[None, Depends(audit)]):
    background_tasks.add_task(write_notification, "owner@example.com", message="report read")
    return {"report": "All is well"}
