from bgadapters.engines.process import ProcessEngine
from bgadapters.flask import BackgroundTasks
from flask import Flask

from process_work import send_offer

engines = {"process": ProcessEngine(max_processes=2, initializer="process_flask:begin")}
background_tasks = BackgroundTasks(engines=engines)


def create_app():
    app = Flask(__name__)
    app.config["SHOP"] = "shop@example.com"
    background_tasks.init_app(app)

    @app.post("/offer/<int:order>")
    def offer(order):
        background_tasks.options(engine="process").add_task(send_offer, order)
        return {"message": "Accepted"}

    return app


def begin():
    """Called in each process as it begins; what it returns is entered around each task."""
    return create_app().app_context
