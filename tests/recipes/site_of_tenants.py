"""A site of django-tenants.

``python -m tests.recipes.site_of_tenants wsgi HOST PORT DATABASE`` prints in which schema its
tasks ran.
"""

from __future__ import annotations

import sys
from typing import Any

from tests.recipes.sites import MIDDLEWARE, WAYS, URLConf, configure, tell


def connection_here() -> Any:
    from django.db import connection

    return connection


def where(asked: str, kind: str) -> None:
    connection = connection_here()
    with connection.cursor() as cursor:
        cursor.execute("SHOW search_path")
        (path,) = cursor.fetchone()
    tell(kind=kind, asked=asked, path=path, schema=connection.schema_name)


async def awhere(asked: str, kind: str) -> None:
    from asgiref.sync import sync_to_async

    tell(kind=f"{kind}, itself", asked=asked, schema=connection_here().schema_name)
    await sync_to_async(where)(asked, kind)


def pinned(schema: str) -> None:
    """As who works around it: it chooses a schema and does not undo that."""
    connection_here().set_schema(schema)


def view(request: Any) -> Any:
    from django.http import HttpResponse

    schema = connection_here().schema_name
    request.background_tasks.add_task(where, schema, "sync")
    request.background_tasks.add_task(pinned, "public")
    request.background_tasks.add_task(awhere, schema, "async")
    request.background_tasks.add_task(where, schema, "after another's")
    return HttpResponse()


async def aview(request: Any) -> Any:
    from django.http import HttpResponse
    from django_tenants.utils import tenant_context

    with tenant_context(request.tenant):
        for task in (where, awhere):
            request.background_tasks.add_task(task, request.tenant.schema_name, "async view's")
    return HttpResponse()


def main(way: str, host: str, port: str, database: str) -> None:
    from django.core.management import call_command
    from django.db import connection
    from django.urls import path

    shared = ["django_tenants", "django.contrib.contenttypes", "tests.recipes.tenancy"]
    configure(
        DATABASES={
            "default": {
                "ENGINE": "django_tenants.postgresql_backend",
                "HOST": host,
                "PORT": int(port),
                "NAME": database,
                "USER": "postgres",
            }
        },
        INSTALLED_APPS=[*shared, "django.contrib.auth", "bgadapters.django"],
        SHARED_APPS=shared,
        TENANT_APPS=["django.contrib.auth"],
        TENANT_MODEL="tenancy.Client",
        TENANT_DOMAIN_MODEL="tenancy.Domain",
        DATABASE_ROUTERS=["django_tenants.routers.TenantSyncRouter"],
        MIDDLEWARE=["django_tenants.middleware.main.TenantMainMiddleware", MIDDLEWARE],
        ROOT_URLCONF=URLConf(),
        BACKGROUND_TASKS={"MAX_WORKERS": 1, "TASK_MIDDLEWARE": ["recipes.tenants.TenantSchema"]},
    )
    from django.conf import settings

    from tests.recipes.tenancy.models import Client, Domain

    settings.ROOT_URLCONF.urlpatterns.extend([path("", view), path("async/", aview)])
    call_command("migrate_schemas", shared=True, run_syncdb=True, verbosity=0)
    for name in ("public", "one", "two"):
        tenant = Client.objects.create(schema_name=name)
        Domain.objects.create(domain=f"{name}.test", tenant=tenant, is_primary=True)
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA one; CREATE SCHEMA two")
    for name in ("one", "two", "one"):
        WAYS[way]("/", {"Host": f"{name}.test"})
        WAYS[way]("/async/", {"Host": f"{name}.test"})


if __name__ == "__main__":
    main(*sys.argv[1:])
