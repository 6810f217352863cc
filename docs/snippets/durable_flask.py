from bgadapters.flask import BackgroundTasks
from flask import Flask

from notifications import write_notification

app = Flask(__name__)
app.config["BACKGROUND_TASKS_STORE"] = "sqlite:///tasks.db"
app.config["BACKGROUND_TASKS_TASK_MODULES"] = ["notifications"]
background_tasks = BackgroundTasks(app)


@app.post("/sign-up/<email>")
def sign_up(email):
    durably = background_tasks.options(durable=True)
    durably.add_task(write_notification, email, message="welcome")
    return {"message": "Signed up"}
