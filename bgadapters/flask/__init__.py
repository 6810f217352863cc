"""Flask: an extension.

::

    from bgadapters.flask import BackgroundTasks

    background_tasks = BackgroundTasks(app)  # or BackgroundTasks() and init_app(app)

    @app.post("/send-notification/<email>")
    def send_notification(email):
        background_tasks.add_task(write_notification, email, message="some notification")
"""

from bgadapters.adapters import explain_missing

try:
    from bgadapters.flask.extension import BackgroundTasks
except ModuleNotFoundError as missing:
    explain_missing(missing, "flask", "bgadapters.flask needs it: pip install 'bgadapters[flask]'.")
    raise

__all__ = ["BackgroundTasks"]
