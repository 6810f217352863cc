from bgadapters.flask import BackgroundTasks
from flask import Blueprint, Flask

from notifications import send_welcome, write_notification

background_tasks = BackgroundTasks()
accounts = Blueprint("accounts", __name__)


@accounts.post("/sign-up/<email>")
def sign_up(email):
    background_tasks.add_task(write_notification, email, message="signed up")
    background_tasks.add_task(send_welcome, email)
    background_tasks.add_task(write_notification, email, message="done")
    return {"message": "Signed up"}


def create_app():
    app = Flask(__name__)
    background_tasks.init_app(app)
    app.register_blueprint(accounts)
    return app
