"""Flask, with the instrumentors of both."""

from flask import Flask
from opentelemetry.instrumentation.flask import FlaskInstrumentor

from bgadapters.flask import BackgroundTasks
from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor
from tests.telemetry.traced import work

work.export()
BackgroundTasksInstrumentor().instrument()
application = Flask(__name__)
FlaskInstrumentor().instrument_app(application)  # type: ignore[no-untyped-call]
background_tasks = BackgroundTasks(application, drain_timeout=0.2)


@application.get("/add/<who>")
def add(who: str) -> str:
    work.add_all(background_tasks.add_task, who)
    return "added"
