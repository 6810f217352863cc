from bgadapters import BackgroundTasks
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from notifications import send_welcome, write_notification


async def sign_up(request: Request):
    email = request.path_params["email"]
    tasks = BackgroundTasks()
    tasks.add_task(write_notification, email, message="signed up")
    tasks.add_task(send_welcome, email)
    return PlainTextResponse("Signed up", background=tasks)


app = Starlette(routes=[Route("/sign-up/{email}", sign_up, methods=["POST"])])
