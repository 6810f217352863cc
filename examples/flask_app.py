"""Flask. Run it from the root of the repository with one command.

    gunicorn --threads 4 examples.flask_app:app

and try it with

    curl -X POST http://127.0.0.1:8000/send-notification/ada@example.org

``examples/notifications.py`` says where the notification and the mail go.
"""

import os

from flask import Flask

from bgadapters.flask import BackgroundTasks
from examples.notifications import send_welcome, write_notification

app = Flask(__name__)

# Optional. This setting names a function that hears of every task; nothing is called where
# the variable is not set.
app.config["BACKGROUND_TASKS_ON_EVENT"] = os.environ.get("ON_TASK_EVENT")

background_tasks = BackgroundTasks(app)


@app.post("/send-notification/<email>")
def send_notification(email: str) -> dict[str, str]:
    """Answer at once; write the notification after the response."""
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}


@app.post("/sign-up/<email>")
def sign_up(email: str) -> dict[str, str]:
    """Answer at once; three tasks run after the response, in the order added."""
    background_tasks.add_task(write_notification, email, message="signed up")
    background_tasks.add_task(write_notification, email, message="welcome is on its way")
    background_tasks.add_task(send_welcome, email)
    return {"message": "Signed up"}
