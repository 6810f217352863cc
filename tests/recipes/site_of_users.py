"""A site whose libraries keep the current user, each in its own way.

``python -m tests.recipes.site_of_users wsgi`` prints who did what, in the view and in its tasks.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.recipes.sites import MIDDLEWARE, WAYS, URLConf, configure, tell

HAS_GUID = find_spec("django_guid") is not None


def login(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Middleware: the header says who it is."""
    from django.contrib.auth.models import AnonymousUser, User

    def middleware(request: Any) -> Any:
        name = request.headers["X-User"]
        request.user = User.objects.get(username=name) if name else AnonymousUser()
        return get_response(request)

    return middleware


def work(who: str, where: str) -> None:
    import crum
    from auditlog.models import LogEntry

    from tests.recipes.ledger.models import Audited, Entry

    def name(user: Any) -> str:
        return getattr(user, "username", "") or ""

    entry: Any = Entry.objects.create(name=who)
    logged: Any = LogEntry.objects.get_for_object(Audited.objects.create(name=who)).first()
    seen = {
        "history": name(entry.history.first().history_user),
        "auditlog": name(logged.actor),
        "address": logged.remote_addr,
        "crum": name(crum.get_current_user()),
    }
    if HAS_GUID:
        from django_guid import get_guid

        seen["guid"] = get_guid()
    tell(where=where, who=who, **seen)


async def awork(who: str, where: str) -> None:
    from asgiref.sync import sync_to_async

    await sync_to_async(work)(who, where)


def view(request: Any) -> Any:
    from django.http import HttpResponse

    who = request.headers["X-User"]
    work(who, "view")
    request.background_tasks.add_task(work, who, "task")
    request.background_tasks.add_task(awork, who, "async task")
    return HttpResponse()


def main(way: str) -> None:
    from django.core.management import call_command
    from django.urls import path

    recipes = ["history.HistoryUser", "audit_log.AuditlogActor", "current_user.CurrentUser"]
    guid = ["django_guid.middleware.guid_middleware"] if HAS_GUID else []
    recipes += ["request_id.RequestId"] if HAS_GUID else []
    with tempfile.TemporaryDirectory() as folder:
        configure(
            DATABASES={
                "default": {
                    "ENGINE": "django.db.backends.sqlite3",
                    "NAME": str(Path(folder) / "db"),
                }
            },
            INSTALLED_APPS=[
                *("django.contrib.contenttypes", "django.contrib.auth", "bgadapters.django"),
                *("simple_history", "auditlog", "tests.recipes.ledger"),
                *(["django_guid"] if HAS_GUID else []),
            ],
            MIDDLEWARE=[
                *(MIDDLEWARE, *guid, "tests.recipes.site_of_users.login"),
                "simple_history.middleware.HistoryRequestMiddleware",
                *("auditlog.middleware.AuditlogMiddleware", "crum.CurrentRequestUserMiddleware"),
            ],
            DJANGO_GUID={"VALIDATE_GUID": False},
            ROOT_URLCONF=URLConf(),
            BACKGROUND_TASKS={
                "MAX_WORKERS": 1,
                "TASK_MIDDLEWARE": [f"recipes.{recipe}" for recipe in recipes],
            },
        )
        from django.conf import settings
        from django.contrib.auth.models import User

        settings.ROOT_URLCONF.urlpatterns.append(path("", view))
        call_command("migrate", run_syncdb=True, verbosity=0)
        for who in ("ada", "bob"):
            User.objects.create(username=who)
        for number, who in enumerate(("ada", "", "bob")):
            WAYS[way]("/", {"X-User": who, "Correlation-ID": f"id-{number}"})


if __name__ == "__main__":
    main(sys.argv[1])
