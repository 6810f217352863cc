"""The tasks in Django's admin: to look at them, to retry failed ones, to discard them.

Who may view durable tasks sees all but their arguments, which may be secrets: that takes the
permission ``bgadapters_durable.view_arguments``. Retrying takes the permission to change durable
tasks, discarding that to delete them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html

from bgadapters.adapters import StoredTasks, StoreUnavailableError
from bgadapters.django.durable.models import StoredTask
from bgadapters.django.durable.place import is_meant, parsed
from bgadapters.django.runtime import get_runtime

_PERMISSION = "bgadapters_durable.{}"
_FIELDS = (
    "id",
    "name",
    "state",
    "attempts",
    "crashes",
    "time_added",
    "time_due",
    "time_ended",
    "key",
    "priority",
    "request",
    "error",
    "reason",
    "traceback",
)


def _url() -> str:
    """The store, if it is one of Django's; else the tables of the default database are shown."""
    store = get_runtime().settings.store
    return store if is_meant(store) else "django"


@admin.register(StoredTask)
class StoredTaskAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Durable tasks, to be looked at."""

    list_display = ("name", "state", "attempts", "crashes", "time_added", "time_due", "error")
    list_filter = ("state", "name")
    search_fields = ("id", "name", "failure")
    ordering = ("-added",)
    show_full_result_count = False
    actions = ("retry", "discard")

    def get_queryset(self, request: HttpRequest) -> QuerySet[StoredTask]:
        """Return those of the database that the setting names."""
        return super().get_queryset(request).using(parsed(_url()).alias)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:  # type: ignore[override]  # noqa: ARG002
        """Return what is shown: arguments to those who may see them."""
        may = request.user.has_perm(_PERMISSION.format("view_arguments"))  # type: ignore[union-attr]
        return (*_FIELDS, "arguments") if may else _FIELDS

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Sequence[str]:  # type: ignore[override]
        """Return all of it."""
        return self.get_fields(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:  # noqa: ARG002
        """Return False: views add tasks."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: nothing can be edited."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return False: what a process is about to run stays. See the action that discards."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:  # noqa: ARG002
        """Return whether somebody may look at tasks, or do anything with them."""
        return any(self._may(request, what) for what in ("view", "change", "delete"))

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Return whether somebody may have failed tasks run again."""
        return self._may(request, "change")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Return whether somebody may delete tasks."""
        return self._may(request, "delete")

    def _may(self, request: HttpRequest, what: str) -> bool:
        return bool(request.user.has_perm(_PERMISSION.format(f"{what}_storedtask")))  # type: ignore[union-attr]

    @admin.action(description="Retry failed tasks", permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[StoredTask]) -> None:
        """Have those of the chosen tasks run again that have failed."""
        self._do(request, queryset, StoredTasks(_url()).retry, "to be run again")

    @admin.action(
        description="Discard tasks that failed, or that no process has", permissions=["discard"]
    )
    def discard(self, request: HttpRequest, queryset: QuerySet[StoredTask]) -> None:
        """Delete those of the chosen tasks that no process is about to run."""
        self._do(request, queryset, StoredTasks(_url()).discard, "deleted")

    def _do(
        self,
        request: HttpRequest,
        queryset: QuerySet[StoredTask],
        do: Callable[[list[str]], int],
        done: str,
    ) -> None:
        ids = list(queryset.values_list("id", flat=True))
        try:
            number = do(ids)
        except StoreUnavailableError as exc:
            self.message_user(request, str(exc), messages.ERROR)
            return
        level = messages.SUCCESS if number == len(ids) else messages.WARNING
        self.message_user(request, f"{number} of {len(ids)} task(s) {done}", level)

    # What is shown.

    @admin.display(ordering="attempt")
    def attempts(self, task: StoredTask) -> int:
        """How many attempts have ended."""
        return task.attempt if task.state == "failed" else task.attempt - 1

    @admin.display(description="added", ordering="added")
    def time_added(self, task: StoredTask) -> datetime | None:
        """When it was added."""
        return _time(task.added)

    @admin.display(description="not before", ordering="due")
    def time_due(self, task: StoredTask) -> datetime | None:
        """The time before which it does not start."""
        return _time(task.due)

    @admin.display(description="failed", ordering="ended")
    def time_ended(self, task: StoredTask) -> datetime | None:
        """When it has failed."""
        return _time(task.ended)

    def error(self, task: StoredTask) -> str | None:
        """What it has failed with."""
        failure = _failure(task)
        return failure.get("error") or failure.get("reason")

    def reason(self, task: StoredTask) -> str | None:
        """Why it has failed, where no exception says so."""
        return _failure(task).get("reason")

    def traceback(self, task: StoredTask) -> str | None:
        """Where that was raised."""
        found = _failure(task).get("traceback")
        return None if found is None else format_html("<pre>{}</pre>", found)

    def request(self, task: StoredTask) -> str | None:
        """That of the request that has added it."""
        shown = StoredTasks(_url()).show(task.id)
        return shown and " ".join(filter(None, (shown.method, shown.path)))

    def arguments(self, task: StoredTask) -> str | None:
        """What it is called with, as JSON keeps it."""
        shown = StoredTasks(_url()).show(task.id, arguments=True)
        return None if shown is None else json.dumps(shown.arguments, ensure_ascii=False)


def _failure(task: StoredTask) -> dict[str, str]:
    found: dict[str, str] = json.loads(task.failure) if task.failure else {}
    return found


def _time(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment if settings.USE_TZ else timezone.make_naive(moment)
