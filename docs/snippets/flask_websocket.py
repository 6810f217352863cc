from bgadapters.flask import BackgroundTasks
from flask import Flask
from flask_sock import Sock

from notifications import write_notification

app = Flask(__name__)
background_tasks = BackgroundTasks(app)
sock = Sock(app)


@sock.route("/orders/<email>")
def orders(ws, email):
    while True:
        order = ws.receive()
        background_tasks.add_task(write_notification, email, message=order)  # starts now
        ws.send("ordered")
