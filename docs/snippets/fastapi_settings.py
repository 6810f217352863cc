from bgadapters import QueueFullError
from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from hooks import report
from notifications import write_notification

app = FastAPI()
init_app(app, max_workers=4, max_pending=200, on_full="reject", on_error=report)


@app.exception_handler(QueueFullError)
async def busy(request: Request, exc: QueueFullError):
    return JSONResponse({"message": "Busy"}, status_code=503, headers={"Retry-After": "5"})


@app.post("/send-notification/{email}")
def send_notification(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}
