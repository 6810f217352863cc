"""It has what Django's dummy has, which connects to nothing."""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.dummy import base
from django.db.backends.dummy.features import DummyDatabaseFeatures


class DatabaseWrapper(BaseDatabaseWrapper):
    """A connection to nothing."""

    client_class: Any = base.DatabaseClient
    creation_class: Any = base.DatabaseCreation
    features_class: Any = DummyDatabaseFeatures
    introspection_class: Any = base.DatabaseIntrospection
    ops_class: Any = base.DatabaseOperations
