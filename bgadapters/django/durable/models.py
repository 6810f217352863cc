"""What a database keeps of durable tasks.

Times of tasks are those of `time.time`, as a `bgadapters.stores.Row` has them; leases are told by
the clock of the database, in seconds since 1970 as well: a clock on a wall goes back in autumn.
"""

from __future__ import annotations

from django.db import models


class StoredTask(models.Model):
    """A task that waits, runs, or has failed; see `bgadapters.stores.Row` for most fields."""

    id: models.CharField[str, str] = models.CharField(primary_key=True, max_length=64)
    queue_id: models.CharField[str, str] = models.CharField("queue", max_length=64)
    position: models.IntegerField[int, int] = models.IntegerField()
    added: models.FloatField[float, float] = models.FloatField()
    payload: models.TextField[str, str] = models.TextField()
    name: models.TextField[str, str] = models.TextField()
    key: models.TextField[str | None, str | None] = models.TextField(
        null=True
    )  # an empty key is a key
    priority: models.IntegerField[int, int] = models.IntegerField()
    due: models.FloatField[float | None, float | None] = models.FloatField(null=True)
    attempt: models.IntegerField[int, int] = models.IntegerField()
    crashes: models.IntegerField[int, int] = models.IntegerField()
    is_recovered: models.BooleanField[bool, bool] = models.BooleanField()
    state: models.CharField[str, str] = models.CharField(
        max_length=8, choices=[("waiting", "waiting or running"), ("failed", "failed")]
    )
    failure: models.TextField[str | None, str | None] = models.TextField(null=True)
    ended: models.FloatField[float | None, float | None] = models.FloatField(null=True)
    owner: models.CharField[str | None, str | None] = models.CharField(
        max_length=32, null=True
    )  # None: nobody has it
    has_begun: models.BooleanField[bool, bool] = models.BooleanField(default=False)
    # A hash of the key, once it was claimed. Of those that wait and have not begun one has it.
    claim: models.CharField[str | None, str | None] = models.CharField(
        max_length=64, null=True, db_index=True
    )

    class Meta:  # noqa: D106  Django's
        verbose_name = "durable task"
        indexes = (
            models.Index(fields=["state", "owner", "added"], name="bgadapters_durable_by_owner"),
            models.Index(fields=["queue_id"], name="bgadapters_durable_by_queue"),
        )
        permissions = (("view_arguments", "Can view the arguments of durable tasks"),)

    def __str__(self) -> str:
        return str(self.name)


class Owner(models.Model):
    """A process that has tasks: it lives until its lease has expired."""

    id: models.CharField[str, str] = models.CharField(primary_key=True, max_length=32)
    expires: models.FloatField[float, float] = models.FloatField()
