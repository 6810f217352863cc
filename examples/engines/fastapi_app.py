"""FastAPI, with tasks that run where ``ENGINE`` says. Run it from the root of the repository.

    uvicorn examples.engines.fastapi_app:app

and, if ``ENGINE`` is huey or celery, a worker beside it:

    huey_consumer examples.engines.fastapi_app.huey
    celery -A examples.engines.fastapi_app:celery_app worker
"""

from fastapi import FastAPI

from bgadapters.fastapi import BackgroundTasks, init_app
from examples.engines import where
from examples.engines.work import note, render_thumbnail, send_mail

app = FastAPI()
init_app(app, engines=where.engines, defaults={"engine": where.ENGINE})

huey, celery_app = (getattr(where, name, None) for name in ("huey", "celery_app"))


@app.post("/orders/{email}")
async def order(email: str, background_tasks: BackgroundTasks) -> dict[str, str]:
    """Answer at once; the mail and the thumbnail come after the response."""
    note("view", "begins")
    background_tasks.add_task(send_mail, email)
    background_tasks.add_task(render_thumbnail, email)
    return {"message": "Ordered"}
