"""Which store a setting means."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bgadapters.core.model.errors import SettingsError
from bgadapters.core.outbox.store import Store

_STORES = {
    "sqlite": "bgadapters.stores.sqlite:SQLiteStore",
    "django": "bgadapters.django.durable.opening:store_at",
    "": "bgadapters.stores.sqlalchemy:SQLAlchemyStore",
}
"""By the scheme of their URLs; all others are SQLAlchemy's."""


def store_of(value: Any) -> Store:
    """Return a store that is not open.

    Args:
        value: the setting ``store``: a URL, or an object with the methods of a `Store`. Such an
            object that can be called makes a store.

    Raises:
        SettingsError: it names none, or that needs a package that is not installed.
    """
    if not isinstance(value, str):
        return value() if callable(value) else value  # type: ignore[no-any-return]
    scheme = value.partition(":")[0]
    module, _, name = _STORES.get(scheme, _STORES[""]).partition(":")
    try:
        kind = getattr(import_module(module), name)
    except ImportError as exc:
        raise SettingsError(f"the store {value!r} needs a package: {exc}") from exc
    store: Store = kind(value)
    return store
