"""As that of django-tenants does, on SQLite."""

from __future__ import annotations

import threading
from typing import Any

from django.db.backends.sqlite3 import base


class Tenant:
    """What is not equal to another one."""

    def __init__(self, name: str) -> None:
        self.name = name


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection that belongs to a tenant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.schema: str | None = None
        self.tenant = Tenant("public")
        self.guard = threading.Lock()
