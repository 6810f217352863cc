"""Who waits for capacity, in the order of their coming."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice

_OVERTAKEN = 64
"""So many who wait may be overtaken by those who need less, as long as there are no more."""

Callback = Callable[[], object]


class HeldBack:
    """Those who wait for capacity on event loops.

    There may be ten thousand of them. So what has become free is kept for the first ones that it
    is enough for, and they alone are called: if all were called to ask again, each task that ends
    would cost as much as there are responses that wait.

    It has no lock. It calls nobody.

    Attributes:
        waiting: what each of those needs who were not called. To be read: of an attribute it is
            cheaper to ask whether there are any.
        promised: the capacity that is kept for those who were called and have not asked yet.
    """

    def __init__(self) -> None:
        # A plain dict looks at all that were deleted before it finds its first.
        self.waiting: OrderedDict[Callback, int] = OrderedDict()
        self._called: dict[Callback, int] = {}
        self.promised = 0

    @property
    def may_be_overtaken(self) -> bool:
        """Whether one who comes may go before those who wait, of whom none can go yet.

        So a response with many tasks does not keep those with few waiting. If many such wait it
        does, or they would never have their turn.
        """
        return len(self.waiting) < _OVERTAKEN

    def add(self, callback: Callback, count: int) -> None:
        """Have one wait for so much."""
        self.waiting[callback] = count

    def remove(self, callback: Callback | None) -> bool:
        """Forget one who waits, or has been called; tell whether there was one."""
        if callback is None:
            return False
        called = self._called.pop(callback, 0)
        self.promised -= called
        return self.waiting.pop(callback, 0) > 0 or called > 0

    def take(self, fits: Callable[[int], bool]) -> list[Callback]:
        """Promise what each needs to the first ones it is enough for; return whom to call.

        Args:
            fits: tells whether so much is free, of which nothing is promised.
        """
        found: list[Callback] = []
        for callback, count in list(islice(self.waiting.items(), _OVERTAKEN)):
            if not fits(1):
                break
            if fits(count):
                self._called[callback] = self.waiting.pop(callback)
                self.promised += count
                found.append(callback)
        return found
