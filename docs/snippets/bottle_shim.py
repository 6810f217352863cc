from functools import wraps

from bgadapters.adapters import current_queue
from bgadapters.wsgi import BackgroundTasksMiddleware
from bottle import Bottle, HTTPError, request

from notifications import write_notification


class BackgroundTasksPlugin:
    """A Bottle plugin: views get ``background_tasks``; errors discard its tasks."""

    name = "background_tasks"
    api = 2

    def apply(self, callback, route):
        @wraps(callback)
        def view(*args, **kwargs):
            queue = current_queue()
            try:
                return callback(*args, background_tasks=queue, **kwargs)
            except Exception as exc:
                queue.discard(exc)
                raise

        return view


bottle = Bottle()
bottle.install(BackgroundTasksPlugin())


@bottle.post("/order/<email>")
def order(email, background_tasks):
    background_tasks.add_task(write_notification, email, message="ordered")
    if request.query.stock == "0":
        raise HTTPError(409, "Sold out")
    return {"message": "Ordered"}


app = BackgroundTasksMiddleware(bottle)
