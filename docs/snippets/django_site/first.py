# region: view
from bgadapters.django import background_tasks

# endregion
from django.http import JsonResponse


def write_notification(email, message=""):
    with open("log.txt", mode="a") as log:
        log.write(f"notification for {email}: {message}\n")


# region: view
@background_tasks
def send_notification(request, email):
    request.background_tasks.add_task(write_notification, email, message="some notification")
    return JsonResponse({"message": "Notification sent in the background"})


# endregion
