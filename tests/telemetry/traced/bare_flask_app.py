"""Flask, without a word of telemetry: for ``opentelemetry-instrument``."""

from flask import Flask

from bgadapters.flask import BackgroundTasks
from tests.telemetry.traced import work

application = Flask(__name__)
background_tasks = BackgroundTasks(application)


@application.get("/add/<who>")
def add(who: str) -> str:
    work.add_all(background_tasks.add_task, who)
    return "added"
