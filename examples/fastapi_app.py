"""FastAPI. Run it from the root of the repository with one command.

    uvicorn examples.fastapi_app:app

and try it with

    curl -X POST http://127.0.0.1:8000/send-notification/ada@example.org

``examples/notifications.py`` says where the notification and the mail go.
"""

import os

from fastapi import FastAPI

from bgadapters.fastapi import BackgroundTasks, init_app
from examples.notifications import send_welcome, write_notification

app = FastAPI()

# Optional: settings, and at shutdown a wait for the tasks that still run. This setting names
# a function that hears of every task; nothing is called where the variable is not set.
init_app(app, on_event=os.environ.get("ON_TASK_EVENT"))


@app.post("/send-notification/{email}")
async def send_notification(email: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; write the notification after the response."""
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}


@app.post("/sign-up/{email}")
async def sign_up(email: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; three tasks run after the response, in the order added."""
    background_tasks.add_task(write_notification, email, message="signed up")
    background_tasks.add_task(write_notification, email, message="welcome is on its way")
    background_tasks.add_task(send_welcome, email)
    return {"message": "Signed up"}
