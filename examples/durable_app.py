"""FastAPI with tasks that survive ``kill -9``. Run it from the root of the repository.

    uvicorn examples.durable_app:app

and try it with

    curl -X POST http://127.0.0.1:8000/sign-up/ada@example.org

Kill it before the mail is sent, start it again, and the mail is sent.
``examples/notifications.py`` says where it goes.
"""

import os

from fastapi import FastAPI

from bgadapters.fastapi import BackgroundTasks, init_app
from examples.notifications import send_welcome

app = FastAPI()
init_app(
    app,
    store=os.environ.get("TASK_STORE", "sqlite:///tasks.db"),
    task_modules=["examples.notifications"],
)


@app.post("/sign-up/{email}")
async def sign_up(email: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer once the task is on the disk; it runs after the response, whatever happens."""
    background_tasks.options(durable=True).add_task(send_welcome, email)
    return {"message": "Signed up"}
