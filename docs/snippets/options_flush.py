from bgadapters import add_task, flush
from bgadapters.flask import BackgroundTasks
from flask import Flask, Response

from notifications import write_notification

app = Flask(__name__)
BackgroundTasks(app)


@app.post("/import/<email>")
def run_import(email):
    def lines():
        for number in range(3):
            add_task(write_notification, email, message=f"part {number}")
            flush()  # it runs now, although the response goes on
            yield f"part {number}\n"

    return Response(lines())
