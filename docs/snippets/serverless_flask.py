from apig_wsgi import make_lambda_handler
from bgadapters.flask import BackgroundTasks
from flask import Flask

from notifications import write_notification

app = Flask(__name__)
background_tasks = BackgroundTasks(app, hold_response=True, drain_timeout=20)


@app.post("/sign-up/<email>")
def sign_up(email):
    background_tasks.add_task(write_notification, email, message="signed up")
    return {"message": "Signed up"}


handler = make_lambda_handler(app)
