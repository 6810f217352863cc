"""What an owner has: where in the file each of its tasks is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count

from bgadapters.adapters import Row, StoreUnavailableError

BITS = 36
"""Of the number of a task, so many are its own; those above are the number of who has added it."""


class Mine:
    """The numbers of the tasks of one owner, by their ids.

    Whoever has a task knows its number, so that no index has to find what runs as ever: an index
    costs each task that is added.

    Args:
        owner: the number of the owner, which no other one ever has.
    """

    def __init__(self, owner: int) -> None:
        self.owner = owner
        self._next = count((owner << BITS) + 1)
        self._numbers: dict[str, int] = {}

    def add(self, rows: Sequence[Row]) -> Sequence[int]:
        """Give new tasks their numbers.

        Raises:
            StoreUnavailableError: this owner has one of them already.
        """
        numbers: list[int] = []
        for row in rows:
            if row.id in self._numbers:
                self.forget(each.id for each in rows[: len(numbers)])
                raise StoreUnavailableError(f"the task {row.id} is to be kept, and is kept already")
            self._numbers[row.id] = number = next(self._next)
            numbers.append(number)
        return numbers

    def take(self, task_id: str, number: int) -> None:
        """Note a task that another owner has added."""
        self._numbers[task_id] = number

    def number_of(self, task_id: str) -> int | None:
        """Return the number of a task; None if it is not this owner's."""
        return self._numbers.get(task_id)

    def forget(self, task_ids: Iterable[str]) -> None:
        """They are this owner's no longer."""
        for each in task_ids:
            self._numbers.pop(each, None)
