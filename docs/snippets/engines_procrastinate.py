import os

from bgadapters import task_options
from bgadapters.engines.procrastinate import ProcrastinateEngine
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI
from procrastinate import App, PsycopgConnector

from notifications import write_notification

jobs = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"]))

app = FastAPI()
init_app(app, engines={"jobs": ProcrastinateEngine(jobs)})


@task_options(engine="jobs", retries=3)
def welcome(email: str):
    write_notification(email, message="welcome")


@app.post("/sign-up/{email}")
def sign_up(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(welcome, email)
    return {"message": "Signed up"}
