from bgadapters import task_options
from bgadapters.engines.celery import CeleryEngine
from bgadapters.flask import BackgroundTasks
from celery import Celery
from flask import Flask

from notifications import write_notification

celery_app = Celery("shop", broker="redis://localhost:6379/0")

app = Flask(__name__)
background_tasks = BackgroundTasks(app, engines={"heavy": CeleryEngine(celery_app)})


@task_options(engine="heavy", retries=3)
def make_report(email: str):
    write_notification(email, message="your report")


@app.post("/reports/<email>")
def order_report(email):
    background_tasks.add_task(make_report, email)
    return {"message": "Ordered"}
