from bgadapters.django import background_tasks
from ninja import NinjaAPI
from ninja.errors import HttpError

from notifications import write_notification

api = NinjaAPI()


@api.post("/order/{email}")
@background_tasks
def order(request, email: str, stock: int = 1):
    request.background_tasks.add_task(write_notification, email, message="ordered")
    if stock == 0:
        raise HttpError(409, "Sold out")
    return {"message": "Ordered"}
