from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware
from litestar import Litestar, post
from litestar.params import FromPath

from notifications import write_notification


@post("/send-notification/{email:str}")
async def send_notification(email: FromPath[str]) -> dict[str, str]:
    add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}


app = BackgroundTasksMiddleware(Litestar([send_notification]))
