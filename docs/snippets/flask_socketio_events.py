from bgadapters.flask import BackgroundTasks
from flask import Flask
from flask_socketio import SocketIO

from notifications import write_notification

app = Flask(__name__)
background_tasks = BackgroundTasks(app)
socketio = SocketIO(app, async_mode="threading")


@socketio.on("order")
def order(email):
    background_tasks.add_task(write_notification, email, message="ordered")  # starts now
    return "ordered"
