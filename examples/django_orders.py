"""Django and its transactions: an order that commits, and one that is rolled back.

Run it from the root of the repository with one command, on SQLite, or on PostgreSQL with
``ORDERS_DATABASE=postgresql://user@host:port/name`` before it:

    gunicorn --threads 4 examples.django_orders:application

and try it with

    curl -X POST http://127.0.0.1:8000/order/apples/3
    curl -X POST http://127.0.0.1:8000/order/apples/300

The first order is confirmed after the response, by a task that reads it back. There are not
enough apples for the second: its transaction is rolled back, and with it goes the task.
``examples/notifications.py`` says where the confirmation goes.
"""

import os
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models, transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_POST

from bgadapters import add_task
from bgadapters.django import background_tasks
from examples.notifications import write_notification

IN_STOCK = 10


def database(url: str) -> dict[str, Any]:
    """Read what ``ORDERS_DATABASE`` says."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": parts.path.removeprefix("/")}
    if parts.scheme != "postgresql":
        raise ValueError(f"ORDERS_DATABASE accepts postgresql:// and sqlite:///, not {url!r}")
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts.hostname,
        "PORT": parts.port or 5432,
        "USER": parts.username,
        "PASSWORD": parts.password,
        "NAME": parts.path.removeprefix("/"),
    }


settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={"default": database(os.environ.get("ORDERS_DATABASE", "sqlite:///orders.sqlite3"))},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=["bgadapters.django"],
    ROOT_URLCONF=__name__,
)
application = get_wsgi_application()


class Order(models.Model):
    """How much of what was ordered."""

    item: "models.CharField[str, str]" = models.CharField(max_length=100)
    quantity: "models.IntegerField[int, int]" = models.IntegerField()

    class Meta:  # noqa: D106
        app_label = "orders"
        db_table = "bgadapters_example_orders"


class OutOfStockError(Exception):
    """There is not as much as was ordered."""


def confirm(pk: int) -> None:
    """Read the order back, which is there by now, and confirm it."""
    order = Order.objects.get(pk=pk)
    write_notification("ada@example.org", message=f"{order.quantity} {order.item} are yours")


def place(item: str, quantity: int) -> Order:
    """Place an order. Whoever calls this need not know that there is a task, or a transaction."""
    with transaction.atomic():
        order = Order.objects.create(item=item, quantity=quantity)
        add_task(confirm, order.pk)
        if quantity > IN_STOCK:
            raise OutOfStockError
    return order


@require_POST
@background_tasks
def order(request: HttpRequest, item: str, quantity: int) -> JsonResponse:
    """Answer normally whether or not the order could be placed."""
    try:
        placed = place(item, quantity)
    except OutOfStockError:
        return JsonResponse({"message": f"Only {IN_STOCK} in stock"}, status=409)
    return JsonResponse({"message": "Ordered", "order": placed.pk}, status=201)


urlpatterns = [path("order/<str:item>/<int:quantity>", order)]

with connection.cursor() as _cursor:  # a real project has migrations
    if Order._meta.db_table not in connection.introspection.table_names(_cursor):  # noqa: SLF001  Django's own, documented
        with connection.schema_editor() as _editor:
            _editor.create_model(Order)
connection.close()
