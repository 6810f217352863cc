"""What has to be so before a response begins: durable tasks are kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Protocol

from bgadapters.core.model import guard
from bgadapters.core.model.batch import Batch
from bgadapters.core.outbox.receipt import Receipt


class Confirmer(Protocol):
    """What is asked to make it so."""

    def confirm(self, items: Sequence[Any]) -> Receipt:
        """Begin, for what was noted in a batch; return what tells of the end."""
        ...


def confirm(batch: Batch) -> list[Receipt]:
    """Begin with what has to be so before the response of a batch begins."""
    found: dict[Confirmer, list[Any]] = {}
    for each in batch.take_unconfirmed():
        found.setdefault(each.by, []).append(each.what)
    return [confirmer.confirm(items) for confirmer, items in found.items()]


def say_what_was_not_kept(exception: BaseException) -> None:
    """Tell of durable tasks that could not be kept, though no response waited for it."""
    guard.log(
        logging.ERROR,
        "Durable tasks could not be kept, and run in this process alone: %s",
        guard.text(lambda: str(exception), type(exception).__name__),
    )
