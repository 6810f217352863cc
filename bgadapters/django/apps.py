"""The optional application: settings refused at start-up, system checks."""

from django.apps import AppConfig
from django.core.checks import register

from bgadapters.django.checks import check_databases, check_middleware
from bgadapters.django.runtime import get_runtime


class BackgroundTasksConfig(AppConfig):
    """``"bgadapters.django"`` in ``INSTALLED_APPS``."""

    name = "bgadapters.django"
    label = "bgadapters"
    verbose_name = "Background tasks"

    def ready(self) -> None:
        """Refuse impossible settings now rather than at the first task; register the checks."""
        get_runtime().handle_sigterm()
        register(check_middleware)
        register(check_databases)
