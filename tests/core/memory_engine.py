"""An engine without a broker: what is sent is kept in a list, and run when the test says so."""

from __future__ import annotations

import threading
from typing import Any, ClassVar

from bgadapters.adapters import Options
from bgadapters.engines import Ability, Engine, EngineUnavailableError, Message, SentByCommit


class Own:
    """A task object of the engine's own."""

    def __init__(self, name: str) -> None:
        self.__qualname__ = name

    def __call__(self) -> None:
        raise AssertionError("it is sent, and not called")


class MemoryEngine(Engine):
    """Takes what it is sent unless it is told to be down.

    Attributes:
        messages: what was sent.
        tries: how often somebody has tried to.
        is_down: whether it takes nothing.
        holds: if set, sending waits for it.
    """

    abilities: ClassVar[frozenset[Ability]] = frozenset({"retries", "delay", "transaction"})

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.messages: list[Message] = []
        self.in_transaction: list[tuple[Message, Any]] = []
        self.tries = 0
        self.is_down = False
        self.is_closed = False
        self.refuses: Exception | None = None
        self.holds: threading.Event | None = None

    def send(self, message: Message) -> None:
        self.tries += 1
        if self.holds is not None:
            self.holds.wait(10)
        if self.is_down:
            raise EngineUnavailableError("no broker")
        if self.refuses is not None:
            raise self.refuses
        self.messages.append(message)

    def send_in_transaction(self, message: Message, session: Any) -> SentByCommit | None:
        self.in_transaction.append((message, session))
        return None

    def owns(self, func: Any) -> bool:
        return isinstance(func, Own)

    def check(self, func: Any, options: Options) -> None:
        if options.name == "refused":
            raise TypeError("this engine has no tasks of that name")

    def close(self) -> None:
        self.is_closed = True

    def run_all(self) -> None:
        """Run what was sent, as a worker does."""
        messages, self.messages = self.messages, []
        for each in messages:
            self.run(each.payload)
