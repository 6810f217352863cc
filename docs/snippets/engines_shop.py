import os

from bgadapters.engines.huey import HueyEngine
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI
from huey import SqliteHuey
from huey.serializer import SignedSerializer

from engines_report import make_report

# region: broker
huey = SqliteHuey(
    "shop", filename="huey.db", serializer=SignedSerializer(os.environ["HUEY_SECRET"])
)
# endregion

app = FastAPI()
# region: settings
init_app(app, engines={"heavy": HueyEngine(huey)})
# endregion


# region: view
@app.post("/reports/{email}")
def order_report(email: str, background_tasks: BackgroundTasks):
    background_tasks.options(engine="heavy").add_task(make_report, email)
    return {"message": "Ordered"}


# endregion


# region: own
@huey.task(retries=3, retry_delay=10)
def send_invoice(email: str):
    make_report(email)


@app.post("/invoices/{email}")
def order_invoice(email: str, background_tasks: BackgroundTasks):
    # was: send_invoice(email)
    background_tasks.options(engine="heavy").add_task(send_invoice, email)
    return {"message": "Ordered"}


# endregion
