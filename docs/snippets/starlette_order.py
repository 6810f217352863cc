from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from notifications import write_notification


async def no_store(request, call_next):
    response = await call_next(request)
    response.headers["Cache-Control"] = "no-store"
    return response


async def notify(request: Request):
    add_task(write_notification, "ada@example.com")
    return PlainTextResponse("ok")


app = Starlette(
    routes=[Route("/", notify)],
    middleware=[
        Middleware(BackgroundTasksMiddleware),
        Middleware(BaseHTTPMiddleware, dispatch=no_store),
        Middleware(BackgroundTasksMiddleware),
    ],
)
