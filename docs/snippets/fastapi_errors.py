from bgadapters.fastapi import BackgroundTasks
from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse

from notifications import write_notification

app = FastAPI()


@app.post("/order/{email}")
def order(email: str, background_tasks: BackgroundTasks, stock: int = 1, quantity: int = 1):
    background_tasks.add_task(write_notification, email, message="ordered")
    audit = background_tasks.options(always=True, name="audit")
    audit.add_task(write_notification, "audit@example.com", message=f"order of {email}")
    if quantity < 1:  # returned: both tasks run
        return JSONResponse({"message": "Nothing to order"}, status_code=400)
    if stock < quantity:  # raised: only the audit runs
        raise HTTPException(status_code=409, detail="Sold out")
    return {"message": "Ordered"}
