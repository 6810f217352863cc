"""The optional application: settings refused at start-up, system checks."""

from django.apps import AppConfig
from django.core.checks import Tags, register

from bgadapters.django.checks import CHECKS, check_connection_limits, check_tables_of_tasks
from bgadapters.django.durable.place import check_place
from bgadapters.django.request import listen
from bgadapters.django.runtime import get_runtime


class BackgroundTasksConfig(AppConfig):
    """``"bgadapters.django"`` in ``INSTALLED_APPS``."""

    name = "bgadapters.django"
    label = "bgadapters"
    verbose_name = "Background tasks"

    def ready(self) -> None:
        """Refuse impossible settings now rather than at the first task; register the checks.

        What a view has done wrong is told where Django tells of its exception.
        """
        runtime = get_runtime()
        check_place(runtime.settings.store)
        runtime.handle_sigterm()
        listen()
        for check in CHECKS:
            register(check)
        register(check_connection_limits, Tags.database)
        register(check_tables_of_tasks, Tags.database)
