"""Tasks that were added in a transaction run only if it commits.

``transaction.on_commit`` keeps its functions in the connection, and forgets those of a
transaction or savepoint that is rolled back. So one that is dropped there without having been
called tells of the rollback, which Django has no other hook for.

Inside of a ``TestCase``, whose own transaction never commits, a block of the test's or the
view's has committed when it has ended and its function is still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connections, transaction

from bgadapters.adapters import Batch, Precondition


def preconditions_of(batch: Batch) -> Sequence[Precondition]:
    """Return a precondition for each database that is in a transaction here."""
    return [
        _commit_of(batch, connection, block)
        for connection in connections.all(initialized_only=True)
        if connection.in_atomic_block and (block := _outermost(connection)) is not None
    ]


def _outermost(connection: Any) -> Any:
    """The outermost block that is not one of a ``TestCase``; None if there is none."""
    for block in connection.atomic_blocks:
        if not getattr(block, "_from_testcase", False):  # not published; durable=True uses it
            return block
    return None


def _commit_of(batch: Batch, connection: Any, block: Any) -> Precondition:
    """That of the innermost savepoint: that of the last task if it was added there too."""
    place = (connection, block, tuple(connection.savepoint_ids))
    for each in batch.preconditions[-len(connections.settings) :]:  # a task has one a database
        if isinstance(each, _Commit) and each.place == place and each.fulfilled is None:
            return each
    commit = _Commit(place)
    transaction.on_commit(_Callback(commit, connection), using=connection.alias, robust=True)
    return commit


class _Commit(Precondition):
    """Is fulfilled when the outermost block commits that is not a test's."""

    why_failed = "their transaction was rolled back"

    def __init__(self, place: tuple[Any, Any, tuple[Any, ...]]) -> None:
        super().__init__()
        self.place = place

    @property
    def fulfilled(self) -> bool | None:
        """Whether it has committed. Where a block has ended, nothing else can come of it."""
        if self._fulfilled is None:
            connection, block, _ = self.place
            if not any(each is block for each in connection.atomic_blocks):
                self._fulfilled = True
        return self._fulfilled


class _Callback:
    """The function for ``on_commit``."""

    def __init__(self, commit: Precondition, connection: Any) -> None:
        self._commit = commit
        self._connection = connection
        self.__qualname__ = "bgadapters.django.commit"  # which Django logs

    def __call__(self) -> None:
        self._commit.resolve(True)

    def __del__(self) -> None:
        # Django also drops it, after a commit, when an earlier function has raised. Autocommit is
        # on again by then, and off in a rollback.
        self._commit.resolve(self._connection.autocommit)
