from bgadapters.django import background_tasks
from django.core.mail import send_mail
from django.db import transaction
from django.http import HttpResponse

from django_site.models import Account


def send_welcome(pk):  # was: @shared_task
    account = Account.objects.get(pk=pk)
    send_mail("Welcome", "Good to see you.", None, [account.email])


@background_tasks
@transaction.atomic
def sign_up(request, email):
    account = Account.objects.create(email=email)
    # was: transaction.on_commit(lambda: send_welcome.delay(account.pk))
    request.background_tasks.add_task(send_welcome, account.pk)
    return HttpResponse(status=201)
