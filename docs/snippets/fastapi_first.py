# region: view
from bgadapters.fastapi import BackgroundTasks

# endregion
from fastapi import FastAPI

app = FastAPI()


def write_notification(email: str, message: str = ""):
    with open("log.txt", mode="a") as log:
        log.write(f"notification for {email}: {message}\n")


# region: view
@app.post("/send-notification/{email}")
async def send_notification(email: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(write_notification, email, message="some notification")
    return {"message": "Notification sent in the background"}


# endregion
