from bgadapters.flask import BackgroundTasks
from flask import Flask, abort, request

from notifications import write_notification

app = Flask(__name__)
background_tasks = BackgroundTasks(app)


@app.post("/order/<email>")
def order(email):
    background_tasks.add_task(write_notification, email, message="ordered")
    audit = background_tasks.options(always=True, name="audit")
    audit.add_task(write_notification, "audit@example.com", message=f"order of {email}")
    if request.args.get("quantity") == "0":  # returned: both tasks run
        return {"message": "Nothing to order"}, 400
    if request.args.get("stock") == "0":  # raised: only the audit runs
        abort(409)
    return {"message": "Ordered"}


@app.errorhandler(409)
def sold_out(error):  # its response is its own, and so are its tasks
    background_tasks.add_task(write_notification, "stock@example.com", message="sold out")
    return {"message": "Sold out"}, 409
