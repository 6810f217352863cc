from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from quart import Quart

from notifications import write_notification

app = Quart(__name__)
app.asgi_app = BackgroundTasksMiddleware(app.asgi_app)


@app.post("/send-notification/<email>")
async def send_notification(email):
    add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}
