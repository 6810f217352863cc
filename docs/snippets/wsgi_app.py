from bgadapters import add_task
from bgadapters.wsgi import BackgroundTasksMiddleware

from notifications import write_notification


def application(environ, start_response):
    add_task(write_notification, "ada@example.com", message=environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


application = BackgroundTasksMiddleware(application)
