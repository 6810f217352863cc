import os

from bgadapters.engines.huey import HueyEngine
from bgadapters.flask import BackgroundTasks
from flask import Flask
from huey import PriorityRedisHuey
from huey.serializer import SignedSerializer

from engines_report import make_report

huey = PriorityRedisHuey(
    "shop",
    url=os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"),
    serializer=SignedSerializer(os.environ["HUEY_SECRET"]),
)

app = Flask(__name__)
background_tasks = BackgroundTasks(app, engines={"heavy": HueyEngine(huey)})


@app.post("/reports/<email>")
def order_report(email):
    background_tasks.options(engine="heavy", priority=10).add_task(make_report, email)
    return {"message": "Ordered"}
