"""Our backend, dressed as those that Django's own tests are about; see `yardstick`."""

from __future__ import annotations

import threading
from copy import deepcopy
from typing import Any

import bgadapters
from bgadapters.core.api import current
from bgadapters.django import BackgroundTasks
from bgadapters.django.tasks import PostResponseBackend


class ImmediateBackend(PostResponseBackend):
    """Returns results of tasks that have run."""

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        result = super().enqueue(task, args, kwargs)
        draining = threading.Thread(target=bgadapters.drain)  # a loop may be running here
        draining.start()
        draining.join()
        result.refresh()
        return result


class DummyBackend(PostResponseBackend):
    """Runs nothing."""

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.results: list[Any] = []
        self._queue = BackgroundTasks()

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        previous = current.enter(self._queue)
        try:
            result = super().enqueue(task, args, kwargs)
        finally:
            current.leave(self._queue, previous)
        self.results.append(result)
        return deepcopy(result)

    def clear(self) -> None:
        """Forget what was enqueued."""
        self._queue.batch.remove()
        self._queue = BackgroundTasks()
        self.results.clear()
