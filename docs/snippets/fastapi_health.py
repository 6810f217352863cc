from bgadapters import stats
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI
from fastapi.responses import JSONResponse

from notifications import write_notification

app = FastAPI()
init_app(app)


@app.get("/ready")
async def ready():
    late = [each for each in stats() if each.oldest_wait > 20 or each.pending >= each.capacity]
    return JSONResponse({"late": len(late)}, status_code=503 if late else 200)


@app.post("/send-notification/{email}")
def send_notification(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}
