"""The extra ``flask`` alone: the extension serves a request."""

from flask import Flask

import bgadapters
from bgadapters.flask import BackgroundTasks

app = Flask(__name__)
background_tasks = BackgroundTasks(app)
ran: list[str] = []


@app.post("/<email>")
def view(email: str) -> str:
    background_tasks.add_task(ran.append, email)
    return "sent"


response = app.test_client().post("/a@b.example", buffered=True)
assert response.text == "sent"
assert bgadapters.drain(10) == []
assert ran == ["a@b.example"], ran
