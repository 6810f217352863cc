"""Flask, with tasks that run where ``ENGINE`` says. Run it from the root of the repository.

    gunicorn --threads 4 examples.engines.flask_app:app

and, if ``ENGINE`` is huey or celery, a worker beside it:

    huey_consumer examples.engines.flask_app.huey
    celery -A examples.engines.flask_app:celery_app worker
"""

from flask import Flask

from bgadapters.flask import BackgroundTasks
from examples.engines import where
from examples.engines.work import note, render_thumbnail, send_mail

app = Flask(__name__)
background_tasks = BackgroundTasks(app, engines=where.engines, defaults={"engine": where.ENGINE})

huey, celery_app = (getattr(where, name, None) for name in ("huey", "celery_app"))


@app.post("/orders/<email>")
def order(email: str) -> dict[str, str]:
    """Answer at once; the mail and the thumbnail come after the response."""
    note("view", "begins")
    background_tasks.add_task(send_mail, email)
    background_tasks.add_task(render_thumbnail, email)
    return {"message": "Ordered"}
