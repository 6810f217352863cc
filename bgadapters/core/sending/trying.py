"""One try to send a task, and the words for what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bgadapters.core.model import lines
from bgadapters.core.model.errors import EngineUnavailableError
from bgadapters.core.model.options import LOCAL
from bgadapters.core.sending.engine import Message
from bgadapters.core.sending.engines import Named, Route


@contextmanager
def trying(message: Message, named: Named) -> Iterator[Callable[[], bool]]:
    """Surround a try to send a task; what is returned tells afterwards whether the engine is back.

    Raises:
        EngineUnavailableError: it could not be sent. The message names the task by its id and its
            name, and never its arguments.
    """
    health, came_up = named.health, False
    which = f"task {message.id}, {message.name}, for {named.name!r}"  # first: logs shorten the rest
    if not health.may_try():
        raise EngineUnavailableError(f"{which}: others have found: {health.reason}")
    try:
        yield lambda: came_up
    except EngineUnavailableError as exc:
        reason = _reason(exc)
        health.failed(reason)
        raise EngineUnavailableError(f"{which}: {reason}") from exc
    except BaseException:
        health.refused()
        raise
    came_up = health.came_up()


def _reason(exception: BaseException) -> str:
    name = type(exception).__name__
    return lines.text(lambda: str(exception).partition("\n")[0] or name, name)


def where(named: Named) -> str:
    """Say that a task was sent."""
    return f"it was sent to {named.name!r}"


def back(named: Named) -> str:
    """Say that an engine is back."""
    return f"Engine {named.name!r} is back"


def down(route: Route, error: EngineUnavailableError) -> str:
    """Say that an engine is down."""
    names = ", ".join(repr(LOCAL if each is None else each.name) for each in route.others)
    what = f"its tasks go to {names}" if names else "no other takes its tasks"
    return f"Engine {route.first.name!r} is down, and {what}: {error}"
