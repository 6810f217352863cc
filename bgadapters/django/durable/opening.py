"""What core and commands call for the setting ``STORE = "django"``."""

from __future__ import annotations

from bgadapters.adapters import SettingsError, Store
from bgadapters.django.durable.place import parsed, what_is_wrong


def store_at(url: str) -> Store:
    """Return the store that a URL means.

    Raises:
        SettingsError: there is no such database, or its tables are no part of the project.
    """
    place = parsed(url)
    wrong = what_is_wrong(place)
    if wrong is not None:
        raise SettingsError(wrong)
    from bgadapters.django.durable.store import DjangoStore  # its models need the application

    return DjangoStore(place)
