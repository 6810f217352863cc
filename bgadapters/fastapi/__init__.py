"""FastAPI: a dependency, and ``init_app`` for what needs the application.

Only the import line differs from FastAPI's own background tasks::

    from bgadapters.fastapi import BackgroundTasks

    @app.post("/send-notification/{email}")
    async def send_notification(email: str, background_tasks: BackgroundTasks):
        background_tasks.add_task(write_notification, email, message="some notification")
"""

from bgadapters.adapters import explain_missing

try:
    from bgadapters.fastapi.app import init_app
    from bgadapters.fastapi.dependency import BackgroundTasks, get_background_tasks
except ModuleNotFoundError as missing:
    explain_missing(
        missing, "fastapi", "bgadapters.fastapi needs it: pip install 'bgadapters[fastapi]'."
    )
    raise

__all__ = ["BackgroundTasks", "get_background_tasks", "init_app"]
