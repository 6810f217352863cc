"""The module that a consumer of Huey is started with: an application with an engine."""

from __future__ import annotations

import json
import os
from typing import Any

import huey as hueys
from huey.serializer import SignedSerializer

from bgadapters.engines.huey import HueyEngine
from tests.engines import work

HUEY, STORE, TIMEOUT = "TEST_HUEY", "TEST_STORE", "TEST_TIMEOUT"
SECRET = "of the tests"


def made(kind: str, name: str, options: dict[str, Any]) -> Any:
    """Make a Huey."""
    return getattr(hueys, kind)(name, serializer=SignedSerializer(secret=SECRET), **options)


def environ(*what: Any) -> dict[str, str]:
    """The environment of a process that makes a Huey of this kind, name and options."""
    return {HUEY: json.dumps(what)}


def own_of(huey: Any) -> Any:
    """A task of Huey's own."""

    def own(what: str) -> None:
        work.say("own", what)

    return huey.task()(own)


if HUEY in os.environ:
    huey = made(*json.loads(os.environ[HUEY]))
    own_of(huey)
    application = work.application(HueyEngine(huey))

    def tell(signal: str, task: Any, exception: BaseException | None = None) -> None:
        work.say(signal, repr(exception), task.id)

    huey.signal("error")(tell)
