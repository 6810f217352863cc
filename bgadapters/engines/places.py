"""What engines have in common whose tasks arrive at one place."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

P = TypeVar("P")
T = TypeVar("T")


class OncePerPlace(Generic[P, T]):
    """Makes one thing for each place, such as a Celery app, whatever the number of its engines.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[P], T]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[P, T] = WeakKeyDictionary()
        self._lock = RLock()

    def __call__(self, place: P) -> T:
        """Return that of a place, which is made if it is not there."""
        with self._lock:
            found = self._made.get(place)
            if found is None:
                found = self._made[place] = self._make(place)
            return found
