"""Tasks that were added in a transaction run only if it commits.

``transaction.on_commit`` keeps its functions in the connection. They are called when COMMIT was
answered, and forgotten when ROLLBACK was. So a function of ours that is called tells of the
commit, and one that is dropped tells of the rollback, which Django has no other hook for. A block
that has merely ended tells nothing: its COMMIT may be under way, and may be refused.

Inside of a ``TestCase``, whose own transaction never commits, a block of the test's or the
view's has committed when it has ended and its function is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import get_ident
from typing import Any
from weakref import ref

from django.db import connections, transaction

from bgadapters.adapters import Batch, Precondition
from bgadapters.django import databases


def preconditions_of(batch: Batch) -> Sequence[Precondition]:
    """Return a precondition for each database that is in a transaction here."""
    return [
        _commit_of(batch, connection, block)
        for connection in databases.in_use()
        if connection.in_atomic_block and (block := outermost_block(connection)) is not None
    ]


def call_after_commits(function: Callable[[], object]) -> bool:
    """Call a function once no database is in a transaction here any more, if all of them commit.

    What it raises is raised where the last one is committed: in whoever has begun it.

    Returns:
        False if none is in one; then it is not called.
    """
    found = _in_transactions()

    def call_if_last() -> None:
        if not _in_transactions():
            function()

    for connection in found:
        transaction.on_commit(call_if_last, using=connection.alias)
    return bool(found)


def _in_transactions() -> list[Any]:
    return [
        connection
        for connection in connections.all(initialized_only=True)
        if connection.in_atomic_block and outermost_block(connection) is not None
    ]


def outermost_block(connection: Any) -> Any:
    """Return the outermost block that is not one of a ``TestCase``; None if there is none."""
    for block in connection.atomic_blocks:
        if not getattr(block, "_from_testcase", False):  # not published; durable=True uses it
            return block
    return None


def _commit_of(batch: Batch, connection: Any, block: Any) -> Precondition:
    """That of the innermost savepoint: that of the last task if it was added there too."""
    place = (connection, block, tuple(connection.savepoint_ids))
    for each in batch.preconditions[-len(connections.settings) :]:  # a task has one a database
        if isinstance(each, _Commit) and each.place == place and each.is_pending():
            return each
    commit = _Commit(place)
    transaction.on_commit(commit.make_function(), using=connection.alias, robust=True)
    return commit


class _Commit(Precondition):
    """Is fulfilled when the outermost block has committed that is not a test's."""

    why_failed = "their transaction was rolled back"

    def __init__(self, place: tuple[Any, Any, tuple[Any, ...]]) -> None:
        super().__init__()
        connection, block, _ = self.place = place
        self._is_in_test = connection.atomic_blocks[0] is not block
        self._thread = get_ident()
        self._function: ref[_Function] | None = None
        self._follows_commit = connection.run_commit_hooks_on_set_autocommit_on

    def make_function(self) -> _Function:
        """Return the function for ``on_commit``, which nobody else may keep."""
        function = _Function(self)
        self._function = ref(function)
        return function

    def is_pending(self) -> bool:
        """Whether the transaction is open, and not another one that the same block has begun."""
        return self.fulfilled is None and self._is_kept()

    def is_up_to_this_thread(self) -> bool:
        """Whether this is the thread of the transaction."""
        return get_ident() == self._thread

    @property
    def fulfilled(self) -> bool | None:
        """Whether it has committed; None while nobody knows."""
        if self._fulfilled is None:
            connection, block, _ = self.place
            if not any(each is block for each in connection.atomic_blocks):
                self._look_after_the_block(connection)
        return self._fulfilled

    def _look_after_the_block(self, connection: Any) -> None:
        """Find out what has come of a block that has ended, as far as that can be known."""
        if self._is_in_test:
            self._fulfilled = not connection.needs_rollback
        elif self._was_committed() and not self._is_kept():
            # What was neither called nor dropped, and is not kept for later either, is in the
            # traceback of an earlier function, which was called after the commit and has raised.
            self._fulfilled = True

    def _was_committed(self) -> bool:
        """Whether Django has come to call functions: autocommit is on again, and off in a rollback.

        If another transaction has begun since, it still means to call those of a commit.
        """
        connection = self.place[0]
        means_to_call = connection.run_commit_hooks_on_set_autocommit_on
        return bool(connection.autocommit or (means_to_call and not self._follows_commit))

    def _is_kept(self) -> bool:
        """Whether Django will call the function, or drop it."""
        function = self._function and self._function()
        kept = reversed(self.place[0].run_on_commit)
        return any(each is function for _, each, _ in kept)

    def tell_dropped(self) -> None:
        """Django has dropped the function. If it has not called it, that tells what came of it."""
        if self._fulfilled is not None:
            return
        connection = self.place[0]
        was_committed = self._was_committed()  # and then an earlier function has raised
        if not (was_committed or connection.in_atomic_block) and connection.errors_occurred:
            self.why_failed = "their connection was lost before it had told of a commit"
        self.resolve(was_committed)


class _Function:
    """What is given to ``on_commit``."""

    def __init__(self, commit: _Commit) -> None:
        self._commit = commit
        self.__qualname__ = "bgadapters.django.commit"  # which Django logs

    def __call__(self) -> None:
        self._commit.resolve(True)

    def __del__(self) -> None:
        self._commit.tell_dropped()
