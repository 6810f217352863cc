from bgadapters.django import background_tasks
from django.db import transaction
from django.http import HttpResponse

from django_site.models import Account
from notifications import write_notification


def welcome(pk):
    account = Account.objects.get(pk=pk)
    write_notification(account.email, message="welcome")


@background_tasks
def create_account(request, email):
    with transaction.atomic():
        account = Account.objects.create(email=email)
        request.background_tasks.add_task(welcome, account.pk)
    return HttpResponse(status=201)
