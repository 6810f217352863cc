from bgadapters import add_task
from bgadapters.fastapi import BackgroundTasks
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from notifications import write_notification

app = FastAPI()


class SoldOutError(Exception):
    pass


@app.exception_handler(SoldOutError)
async def sold_out(request: Request, exc: SoldOutError):
    add_task(write_notification, "stock@example.com", message="sold out")
    return JSONResponse({"message": "Sold out"}, status_code=409)


@app.post("/order/{email}")
def order(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="ordered")
    raise SoldOutError
