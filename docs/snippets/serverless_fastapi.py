from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI
from mangum import Mangum

from notifications import write_notification

app = FastAPI()
init_app(app, hold_response=True, drain_timeout=20)


@app.post("/sign-up/{email}")
async def sign_up(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="signed up")
    return {"message": "Signed up"}


handler = Mangum(app)
