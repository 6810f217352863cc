from bgadapters import task_options
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI

from notifications import write_notification

app = FastAPI()
init_app(app, store="sqlite:///tasks.db")


@task_options(durable=True)
def welcome(email: str):
    write_notification(email, message="welcome")


@app.post("/sign-up/{email}")
def sign_up(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(welcome, email)
    return {"message": "Signed up"}
