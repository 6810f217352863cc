from functools import partial

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
        add_welcome = partial(request.background_tasks.add_task, welcome, account.pk)
        transaction.on_commit(add_welcome)
    return HttpResponse(status=201)
