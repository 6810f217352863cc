from bgadapters import add_task
from bgadapters.wsgi import BackgroundTasksMiddleware
from bottle import Bottle

from notifications import write_notification

bottle = Bottle()


@bottle.post("/send-notification/<email>")
def send_notification(email):
    add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}


app = BackgroundTasksMiddleware(bottle, max_workers=4)
