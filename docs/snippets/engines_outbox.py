import os

from bgadapters.engines.huey import HueyEngine
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI
from huey import RedisHuey
from huey.serializer import SignedSerializer

from engines_report import make_report

signed = SignedSerializer(os.environ["HUEY_SECRET"])
huey = RedisHuey("shop", url=os.environ["REDIS_URL"], serializer=signed)

app = FastAPI()
# region: outbox
init_app(app, store="sqlite:///tasks.db", engines={"heavy": HueyEngine(huey)})


@app.post("/reports/{email}")
def order_report(email: str, background_tasks: BackgroundTasks):
    background_tasks.options(engine="heavy", durable=True).add_task(make_report, email)
    return {"message": "Ordered"}


# endregion
