"""What is sent of a task, and what its options say to an engine."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bgadapters.core.app.runtime import Runtime
from bgadapters.core.model.batch import Batch
from bgadapters.core.model.carried import carried_with
from bgadapters.core.model.control import timestamp
from bgadapters.core.model.middleware import captured_by
from bgadapters.core.model.options import DEFAULT_OPTIONS, Options, TaskOptions
from bgadapters.core.model.payload import (
    OF_THE_RESPONSE,
    check_may_be_called,
    dumped,
    options_to_pack,
    sent_to,
)
from bgadapters.core.model.task import Task, callable_name
from bgadapters.core.sending.arrivals import NAME
from bgadapters.core.sending.engine import ALL, Ability, Message, RunningEngine
from bgadapters.core.sending.engines import Named
from bgadapters.core.sending.entered import to_be_entered_there

_ABILITY_OF: Mapping[str, Ability | None] = {
    "retries": "retries",
    "timeout": "timeout",
    "delay": "delay",
    "run_after": "delay",
    "priority": "priority",
    "key": "key",
    "concurrency": None,
}
"""What an engine has to be able to do for an option; None: no engine can."""
_OF_THE_WAY = {*OF_THE_RESPONSE, "engine", "delay", "run_after", "priority", "key", "on_duplicate"}
"""Options that the engine is told by itself, or that have been dealt with where it arrives."""


def check_message(named: Named, func: Any, options: Options, modules: Sequence[str]) -> None:
    """Check that a task can be sent to an engine.

    Raises:
        TypeError: the engine lacks what one of its options asks for, or refuses it.
        NotPortableError: its function may not be called where it arrives.
    """
    name, engine = named.name, named.engine
    for option, ability in _ABILITY_OF.items():
        value = getattr(options, option)
        is_given = value != getattr(DEFAULT_OPTIONS, option)
        if is_given and engine.abilities is not ALL and ability not in engine.abilities:
            raise TypeError(
                f"cannot add {callable_name(func)} with engine={name!r} and {option}={value!r}: "
                f"{type(engine).__name__} has no {option}. It has {_abilities(engine.abilities)}"
            )
    engine.check(func, options)
    if not engine.owns(func):
        if isinstance(engine, RunningEngine):
            modules = (getattr(func, "__module__", None) or "",)
        check_may_be_called(func, modules, sent_to(name))


def _abilities(abilities: frozenset[Ability]) -> str:
    return ", ".join(o for o, a in _ABILITY_OF.items() if a in abilities) or "none of the options"


def message_of(  # noqa: PLR0917
    runtime: Runtime, task: Task, batch: Batch, options: Options, given: TaskOptions, named: Named
) -> Message:
    """Return what is to be sent of a task that is about to be added to a batch.

    Args:
        runtime: its application.
        task: the task.
        batch: what it is added to.
        options: all of its options.
        given: those that were given at the call.
        named: its engine.

    Raises:
        NotPortableError: its arguments, or what middlewares have captured, cannot be sent.
        TypeError: one of the options that were given is none that can be sent, or the engine
            refuses the arguments of an object of its own.
    """
    call, record = task.unwrap(), batch.recorded(task)
    if named.engine.owns(task.func):  # which may stand for a function: what is sent is the object
        call = call._replace(func=task.func)
    captured = captured_by(getattr(task, "uncontrolled", task))
    if isinstance(named.engine, RunningEngine):
        captured = to_be_entered_there(runtime, call, captured, sent_to(named.name))
    beside = {
        "captured": captured,
        "carried": carried_with(runtime.hooks),
        "method": batch.method,
        "path": batch.path,
        "id": record.id,
        "queue": record.origin.id,
        "added": time.time(),
        NAME: runtime.name,
    }
    payload = ""
    if named.engine.owns(call.func):
        named.engine.check_call(call)
    else:
        whose = sent_to(named.name)
        if isinstance(named.engine, RunningEngine):  # the others are for this process
            said = {"name": options.name} if options.name else {}
        else:
            packed = options_to_pack(given.given, whose)
            said = {name: value for name, value in packed.items() if name not in _OF_THE_WAY}
        payload = dumped(call, whose, options=said, **beside)
    return Message(record.id, task.name, payload, options, None, call, _headers(beside))


def dated(message: Message) -> Message:
    """Return a message that is about to be sent with the time before which it should not start."""
    options, due = message.options, None
    if options.run_after is not None:
        due = timestamp(options.run_after)
    elif options.delay:
        due = time.time() + options.delay
    return message._replace(due=due)


def _headers(beside: Mapping[str, Any]) -> dict[str, str]:
    return {
        f"bgadapters-{name}": value if isinstance(value, str) else json.dumps(value)
        for name, value in beside.items()
        if value
    }
