import os
from urllib.request import urlopen

from bgadapters import task_options
from bgadapters.flask import BackgroundTasks
from flask import Flask

SUPPLIER = os.environ.get("SUPPLIER", "http://supplier.example")

app = Flask(__name__)
background_tasks = BackgroundTasks(app, concurrency={"supplier": 2}, max_workers=8)


@task_options(concurrency="supplier")  # it refuses a third connection
def place_order(item: str) -> None:
    with urlopen(f"{SUPPLIER}/order/{item}", timeout=10) as answer:
        answer.read()


@app.post("/orders/<item>")
def order(item: str) -> str:
    background_tasks.add_task(place_order, item)
    return "ordered"
