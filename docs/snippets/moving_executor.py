from bgadapters.flask import BackgroundTasks
from flask import Flask
from flask_executor import Executor

from notifications import write_notification

app = Flask(__name__)
app.config["EXECUTOR_MAX_WORKERS"] = 4
executor = Executor(app)  # stays, for what the response waits for
background_tasks = BackgroundTasks(app, max_workers=4)


def price(item):
    return len(item)


@app.post("/order/<email>/<items>")
def order(email, items):
    total = sum(executor.map(price, items.split("+")))
    background_tasks.add_task(write_notification, email, message=f"ordered for {total}")
    return {"total": total}
