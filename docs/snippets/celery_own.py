from bgadapters.engines.celery import CeleryEngine
from bgadapters.fastapi import BackgroundTasks, init_app
from celery import Celery
from fastapi import FastAPI

from notifications import write_notification

celery_app = Celery("shop", broker="redis://localhost:6379/0")

app = FastAPI()
init_app(app, engines={"heavy": CeleryEngine(celery_app)})


# region: own
@celery_app.task(autoretry_for=(OSError,), max_retries=3)
def send_invoice(email: str):
    write_notification(email, message="your invoice")


@app.post("/invoices/{email}")
def order_invoice(email: str, background_tasks: BackgroundTasks):
    # was: send_invoice.delay(email)
    background_tasks.options(engine="heavy").add_task(send_invoice, email)
    return {"message": "Ordered"}


# endregion
