from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI

from notifications import write_notification


class MailClient:
    is_open = True

    async def send(self, email: str):
        write_notification(email, message=f"mail client open: {self.is_open}")


mail = MailClient()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    mail.is_open = False  # the tasks have finished by now


app = FastAPI(lifespan=lifespan)
init_app(app, drain_timeout=10)


@app.post("/send-mail/{email}")
async def send_mail(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(mail.send, email)
    return {"message": "Mail sent in the background"}
