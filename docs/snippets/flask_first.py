# region: view
from bgadapters.flask import BackgroundTasks

# endregion
from flask import Flask

app = Flask(__name__)
# region: view
background_tasks = BackgroundTasks()
background_tasks.init_app(app)  # or BackgroundTasks(app)
# endregion


def write_notification(email, message=""):
    with open("log.txt", mode="a") as log:
        log.write(f"notification for {email}: {message}\n")


# region: view
@app.post("/send-notification/<email>")
def send_notification(email):
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}


# endregion
