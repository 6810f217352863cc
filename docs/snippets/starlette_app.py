from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from notifications import write_notification


async def send_notification(request: Request):
    email = request.path_params["email"]
    add_task(write_notification, email, message="some notification")
    return JSONResponse({"message": "Notification sent in the background"})


app = Starlette(
    routes=[Route("/send-notification/{email}", send_notification, methods=["POST"])],
    middleware=[Middleware(BackgroundTasksMiddleware, max_workers=4)],
)
