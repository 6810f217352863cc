from bgadapters.fastapi import BackgroundTasks
from fastapi import FastAPI

from notifications import send_welcome, write_notification

app = FastAPI()


@app.post("/sign-up/{email}")
def sign_up(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="signed up")
    background_tasks.add_task(send_welcome, email)
    background_tasks.add_task(write_notification, email, message="done")
    return {"message": "Signed up"}
