from bgadapters import QueueFullError, add_task
from bgadapters.django import background_tasks
from django.http import Http404, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.utils.translation import get_language
from django.views import View
from django.views.decorators.http import require_POST

import services
from notifications import send_welcome, write_notification


# region: several
@require_POST
@background_tasks
def sign_up(request, email):
    request.background_tasks.add_task(write_notification, email, message="signed up")
    request.background_tasks.add_task(send_welcome, email)
    request.background_tasks.add_task(write_notification, email, message="done")
    return JsonResponse({"message": "Signed up"})


# endregion


# region: async
@background_tasks
async def send_mail(request, email):
    request.background_tasks.add_task(write_notification, email, message="a mail follows")
    return JsonResponse({"message": "Mail sent in the background"})


# endregion


# region: class
@method_decorator(background_tasks, name="dispatch")
class Notification(View):
    def post(self, request, email):
        request.background_tasks.add_task(write_notification, email, message="posted")
        return HttpResponse(status=202)


# endregion


# region: service
@background_tasks
def sign_up_by_service(request, email):
    services.sign_up(email)
    return JsonResponse({"message": "Signed up"})


# endregion


# region: middleware
def visit(request, email):  # no decorator: the middleware has opened the queue
    request.background_tasks.add_task(write_notification, email, message="visited")
    add_task(write_notification, email, message="in the same queue")
    return HttpResponse("Welcome")


# endregion


# region: errors
@background_tasks
def order(request, email):
    request.background_tasks.add_task(write_notification, email, message="ordered")
    audit = request.background_tasks.options(always=True, name="audit")
    audit.add_task(write_notification, "audit@example.com", message=f"order of {email}")
    if request.GET.get("quantity") == "0":  # returned: both tasks run
        return JsonResponse({"message": "Nothing to order"}, status=400)
    if request.GET.get("stock") == "0":  # raised: only the audit runs
        raise Http404("Sold out")
    return JsonResponse({"message": "Ordered"})


# endregion


# region: language
def thank(email):
    write_notification(email, message=f"thanks in {get_language()}")


# endregion


@background_tasks
def buy(request, email):
    request.background_tasks.add_task(thank, email)
    return HttpResponse("Bought")


# region: full
@background_tasks
def send_or_refuse(request, email):
    try:
        request.background_tasks.add_task(write_notification, email, message="accepted")
    except QueueFullError:
        return HttpResponse("Busy", status=503, headers={"Retry-After": "5"})
    return HttpResponse(status=202)


# endregion
