import time

from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI, Request, Response
from prometheus_client import Histogram

from notifications import write_notification

seconds = Histogram("request_seconds", "The time of a request, without its tasks")


class Metrics:
    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        started = time.monotonic()
        try:
            await self.app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                seconds.observe(time.monotonic() - started)


app = FastAPI()


@app.middleware("http")
async def no_store(request: Request, call_next) -> Response:
    response = await call_next(request)
    response.headers["Cache-Control"] = "no-store"
    return response


app.add_middleware(Metrics)
init_app(app, await_tasks=False)  # after all others, so that it is outside of them


@app.post("/send-notification/{email}")
def send_notification(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}
