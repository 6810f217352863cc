from bgadapters.django import background_tasks
from django.utils.decorators import method_decorator
from rest_framework.exceptions import NotFound
from rest_framework.response import Response
from rest_framework.views import APIView

from notifications import write_notification


@method_decorator(background_tasks, name="dispatch")
class Order(APIView):
    def post(self, request, email):
        request.background_tasks.add_task(write_notification, email, message="ordered")
        if request.query_params.get("stock") == "0":
            raise NotFound("Sold out")
        return Response({"message": "Ordered"})
