from bgadapters import task_options
from bgadapters.engines.celery import CeleryEngine
from bgadapters.fastapi import BackgroundTasks, init_app
from celery import Celery
from fastapi import FastAPI

from notifications import write_notification

celery_app = Celery("shop", broker="amqp://guest:guest@localhost:5672//")
celery_app.conf.broker_transport_options = {"confirm_publish": True}

app = FastAPI()
init_app(app, engines={"heavy": CeleryEngine(celery_app)})


@task_options(engine="heavy", retries=3)
def make_report(email: str):
    write_notification(email, message="your report")


@app.post("/reports/{email}")
def order_report(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(make_report, email)
    return {"message": "Ordered"}
