from bgadapters import current_task
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI, HTTPException

from notifications import write_notification

app = FastAPI()
init_app(app)


def alert() -> None:
    response = current_task().response
    write_notification("ops@example.com", message=f"payment failed: {response.exception!r}")


@app.post("/pay/{email}")
def pay(email: str, background_tasks: BackgroundTasks, amount: int = 1):
    background_tasks.options(run_on="error").add_task(alert)
    background_tasks.add_task(write_notification, email, message="paid")
    if amount > 100:
        raise HTTPException(402)
    return {"message": "paid"}
