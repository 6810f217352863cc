"""The application that has the tables of durable tasks."""

from django.apps import AppConfig

from bgadapters.django.durable.place import LABEL


class DurableTasksConfig(AppConfig):
    """``"bgadapters.django.durable"`` in ``INSTALLED_APPS``."""

    name = "bgadapters.django.durable"
    label = LABEL
    verbose_name = "Durable background tasks"
    default_auto_field = "django.db.models.AutoField"
