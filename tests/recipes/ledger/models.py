"""What is changed by somebody."""

from __future__ import annotations

from auditlog.registry import auditlog
from django.db import models
from simple_history.models import HistoricalRecords


class Entry(models.Model):
    """Whose history tells who has changed it."""

    name: models.CharField[str, str] = models.CharField(max_length=50)
    history = HistoricalRecords()


class Audited(models.Model):
    """Whose log tells who has changed it."""

    name: models.CharField[str, str] = models.CharField(max_length=50)


auditlog.register(Audited)
