"""Which database the setting ``STORE`` means, and whether durable tasks can be kept there."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from bgadapters.adapters import SettingsError

APPLICATION = "bgadapters.django.durable"
LABEL = "bgadapters_durable"
LEASE = 30.0
"""Seconds after which a process that has not been heard of is taken to be dead."""


class Place(NamedTuple):
    """What a URL says.

    Attributes:
        alias: that of the database, in Django's ``DATABASES``.
        lease: seconds; see `LEASE`.
    """

    alias: str = "default"
    lease: float = LEASE


def is_meant(store: Any) -> bool:
    """Whether a setting ``STORE`` means a database of Django's."""
    return isinstance(store, str) and store.partition(":")[0] == "django"


def parsed(url: str) -> Place:
    """Return what ``django``, ``django://alias`` or ``django://alias?lease=10`` says.

    Raises:
        SettingsError: it says something else.
    """
    parts = urlsplit(url)
    if url == "django":
        return Place()
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        lease = float(given.pop("lease", LEASE))
    except ValueError:
        lease = 0.0
    is_whole = url.startswith("django://") and not (given or parts.path or parts.fragment)
    if not is_whole or not 1 <= lease <= 3600:
        raise SettingsError(
            f"the store {url!r}: accepted are 'django' and 'django://alias', an alias of "
            "DATABASES, with '?lease=' and a number of seconds from 1 to 3600 behind it or not"
        )
    return Place(parts.netloc or "default", lease)


def what_is_wrong(place: Place) -> str | None:
    """Return what is to be changed in the settings of Django; None if nothing is."""
    if place.alias not in settings.DATABASES:
        known = ", ".join(map(repr, settings.DATABASES))
        return f"there is no database {place.alias!r} for durable tasks: DATABASES has {known}"
    if not apps.is_installed(APPLICATION):
        return (
            "durable tasks in a database of Django's need their tables: add "
            f"{APPLICATION!r} to INSTALLED_APPS, then run 'manage.py migrate'"
        )
    return None


def check_place(store: Any) -> None:
    """Check what the setting ``STORE`` says of Django's databases, if it does.

    Raises:
        ImproperlyConfigured: tasks cannot be kept there.
    """
    if not is_meant(store):
        return
    try:
        wrong = what_is_wrong(parsed(store))
    except SettingsError as exc:
        wrong = str(exc)
    if wrong is not None:
        raise ImproperlyConfigured(wrong)


def has_tables(connection: Any) -> bool:
    """Whether the migrations of the application were made in a database."""
    models = apps.get_app_config(LABEL).get_models()
    tables = {each._meta.db_table for each in models}  # noqa: SLF001  published in spite of its name
    return tables.issubset(connection.introspection.table_names())
