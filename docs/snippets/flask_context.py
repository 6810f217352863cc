from bgadapters.flask import BackgroundTasks
from flask import Flask, current_app, g, request

from notifications import write_notification

app = Flask(__name__)
app.config["SENDER"] = "shop@example.com"
background_tasks = BackgroundTasks(app)


def thank(email, language):
    sender = current_app.config["SENDER"]  # a fresh application context
    remembered = "language" in g  # the request's g is not the task's
    write_notification(email, message=f"thanks from {sender} in {language}, g: {remembered}")


@app.post("/order/<email>")
def order(email):
    g.language = request.accept_languages.best_match(["en", "de"])
    background_tasks.add_task(thank, email, g.language)  # what a task needs, pass it
    return {"message": "Ordered"}
