"""A Flask application whose view adds an async task."""

from __future__ import annotations

from flask import Flask, Response, jsonify

from benchmarks import work
from benchmarks.apps import recorder
from bgadapters.flask import BackgroundTasks

app = Flask(__name__)
background_tasks = BackgroundTasks(app)


@app.get("/task")
def add() -> Response:
    background_tasks.add_task(work.anothing)
    return jsonify(message="sent")


application = recorder.wsgi(app)
