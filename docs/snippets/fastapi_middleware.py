from bgadapters.fastapi import BackgroundTasks, init_app
from fastapi import FastAPI, Header

from notifications import write_notification
from tenant_middleware import TenantMiddleware, current
from timed_middleware import timed

app = FastAPI()
init_app(app, task_middleware=[TenantMiddleware(), timed])


def write(email: str) -> None:
    write_notification(email, message=f"for {current.tenant}")


@app.post("/send-notification/{email}")
def send_notification(
    email: str, background_tasks: BackgroundTasks, tenant: str = Header()
) -> dict[str, str]:
    current.tenant = tenant
    background_tasks.add_task(write, email)
    return {"message": "Notification sent in the background"}
