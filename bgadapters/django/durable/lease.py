"""The lease by which a process is known to live."""

from __future__ import annotations

from typing import Any

from django.db.models import Exists, OuterRef

from bgadapters.adapters import Renewal
from bgadapters.django.durable.clock import DatabaseTime, now
from bgadapters.django.durable.connection import OwnConnection
from bgadapters.django.durable.deletion import delete
from bgadapters.django.durable.models import Owner
from bgadapters.django.durable.place import Place


class Lease:
    """That of this process, renewed by a thread of its own, on a connection of its own.

    Args:
        place: where it is written.

    Attributes:
        is_written: whether it is known to be there.
        was_lost: whether it has ever expired, so that others may have taken this owner's tasks.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection = OwnConnection(place.alias)
        self._owner = ""
        self.is_written = False
        self._renewal: Renewal | None = None
        self.was_lost = False

    def begin(self, owner: str, connection: Any) -> None:
        """Live as an owner from now on.

        One who writes the first task may be in a transaction that locks all of SQLite, and waits
        for this: there the lease is written with the task.
        """
        self._owner = owner
        self.is_written = self.was_lost = False
        if connection.vendor != "sqlite":
            self._write()
        self._renewal = Renewal(self._renew, self._place.lease / 3)
        self._renewal.start()

    def write_with_tasks(self) -> None:
        """Have it be written, if it is not yet, by the transaction that is open here."""
        if not self.is_written:
            self._insert()

    def end(self) -> None:
        """Live no longer: to be called on whatever connection frees the tasks."""
        delete(Owner, self._place.alias, "id = %s", [self._owner])

    def stop(self) -> None:
        """Renew it no more."""
        if self._renewal is not None:
            self._renewal.stop()
            self._connection.close()

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._renewal = None
        self._connection.forget()

    def _renew(self) -> None:
        with self._connection():
            self._write()

    def _write(self) -> None:
        mine = Owner.objects.using(self._place.alias).filter(id=self._owner)
        if not mine.update(expires=self._end):
            self.was_lost = self.is_written
            self._insert()
        self.is_written = True

    def _insert(self) -> None:
        lease = Owner(id=self._owner, expires=self._end)
        Owner.objects.using(self._place.alias).bulk_create([lease], ignore_conflicts=True)

    @property
    def _end(self) -> Any:
        return DatabaseTime() + self._place.lease


def living_owner() -> Exists:
    """Return the condition that the owner of a task lives."""
    return Exists(Owner.objects.filter(id=OuterRef("owner"), expires__gt=DatabaseTime()))


def bury_the_dead(connection: Any) -> None:
    """Delete the leases that have expired; nobody has their tasks any more."""
    delete(Owner, connection.alias, f"expires <= {now(connection)}")
