from bgadapters.flask import BackgroundTasks
from flask import Flask, request

from notifications import write_notification

app = Flask(__name__)
background_tasks = BackgroundTasks(app)


def audit(email, agent):  # values, since a task has no request
    write_notification(email, message=f"signed up with {agent}")


@app.post("/sign-up/<email>")
def sign_up(email):
    background_tasks.add_task(audit, email, request.user_agent.string)
    return {"message": "Signed up"}
