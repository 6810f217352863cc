"""Checked, never run: the Flask extension."""

from __future__ import annotations

from flask import Flask

from bgadapters.flask import BackgroundTasks

app = Flask(__name__)
background_tasks = BackgroundTasks(app, max_workers=8)
background_tasks.init_app(app, drain_timeout=5)
background_tasks.init_app(app, drain_timeout="5")  # type: ignore[arg-type]
BackgroundTasks(app, timeout=5)  # type: ignore[call-arg]


def write_notification(email: str, message: str = "") -> None: ...


@app.post("/<email>")
def view(email: str) -> str:
    background_tasks.add_task(write_notification, email, message="hello")
    background_tasks.add_task(write_notification, 1)  # type: ignore[arg-type]
    background_tasks.options(always=True).add_task(write_notification, 1)  # type: ignore[arg-type]
    background_tasks.options(timeouts=10)  # type: ignore[call-arg]
    return email
