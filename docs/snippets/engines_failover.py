import os

from bgadapters import TaskOptions
from bgadapters.engines.huey import HueyEngine
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI
from huey import RedisHuey, SqliteHuey
from huey.serializer import SignedSerializer

from engines_report import make_report

signed = SignedSerializer(os.environ["HUEY_SECRET"])
redis = RedisHuey("shop", url=os.environ["REDIS_URL"], serializer=signed)
file = SqliteHuey("shop", filename="huey.db", serializer=signed)

app = FastAPI()
# region: settings
init_app(
    app,
    engines={
        "heavy": HueyEngine(redis, failover=["spare", "local"], timeout=2, patience=0),
        "spare": HueyEngine(file),
    },
)
# endregion
# region: view
certainly = TaskOptions(engine="heavy", send="before_response")


@app.post("/reports/{email}")
def order_report(email: str, background_tasks: BackgroundTasks):
    background_tasks.options(certainly).add_task(make_report, email)
    return {"message": "Ordered"}


# endregion
