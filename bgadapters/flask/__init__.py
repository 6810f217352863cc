"""Flask: an extension.

::

    from bgadapters.flask import BackgroundTasks

    background_tasks = BackgroundTasks(app)  # or BackgroundTasks() and init_app(app)

    @app.post("/send-notification/<email>")
    def send_notification(email):
        background_tasks.add_task(write_notification, email, message="some notification")
"""

from bgadapters.flask.extension import BackgroundTasks

__all__ = ["BackgroundTasks"]
