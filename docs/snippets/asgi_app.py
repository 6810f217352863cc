from bgadapters import add_task
from bgadapters.asgi import BackgroundTasksMiddleware

from notifications import send_welcome


async def application(scope, receive, send):
    add_task(send_welcome, "ada@example.com")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


application = BackgroundTasksMiddleware(application)
