from bgadapters import QueueFullError
from bgadapters.flask import BackgroundTasks
from flask import Flask

from notifications import write_notification

app = Flask(__name__)
app.config["BACKGROUND_TASKS_MAX_WORKERS"] = 4
app.config["BACKGROUND_TASKS_MAX_PENDING"] = 200
app.config["BACKGROUND_TASKS_ON_FULL"] = "reject"
app.config["BACKGROUND_TASKS_ON_ERROR"] = "hooks.report"
background_tasks = BackgroundTasks(app)


@app.errorhandler(QueueFullError)
def busy(error):
    return {"message": "Busy"}, 503, {"Retry-After": "5"}


@app.post("/send-notification/<email>")
def send_notification(email):
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}
