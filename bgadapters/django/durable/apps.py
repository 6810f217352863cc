"""The application that has the tables of durable tasks."""

from django.apps import AppConfig


class DurableTasksConfig(AppConfig):
    """``"bgadapters.django.durable"`` in ``INSTALLED_APPS``."""

    name = "bgadapters.django.durable"
    label = "bgadapters_durable"
    verbose_name = "Durable background tasks"
    default_auto_field = "django.db.models.AutoField"
