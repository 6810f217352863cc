"""Which application runs a task that has arrived: that which has added it."""

from __future__ import annotations

import gc
import json
from threading import RLock
from typing import Any
from weakref import ref

from bgadapters.core.app.runtime import Runtime, default_runtime
from bgadapters.core.model import mode
from bgadapters.core.model.errors import SettingsError

NAME = "application"
"""The key of a message under which it has the name of its application."""


class Arrivals:
    """The applications whose tasks arrive at one place, such as a Celery app, told by name.

    It keeps none of them alive.

    Args:
        place: what that is, for errors. Default: an engine.
    """

    def __init__(self, place: str = "an engine") -> None:
        self._place = place
        self._lock = RLock()
        self._applications: dict[str, ref[Runtime]] = {}  # the latest last; guarded by _lock

    def add(self, runtime: Runtime) -> None:
        """Have an application run what arrives of it.

        Raises:
            SettingsError: another one cannot be told from it.
        """
        name = runtime.name
        with self._lock:
            known = self._applications.get(name)
            if known is not None and not runtime.replaces_others and _is_another(known, runtime):
                raise SettingsError(
                    f"two applications send tasks to {self._place}, and their names are the same, "
                    f"{name!r}: a worker cannot tell whose tasks arrive. Give each a setting name, "
                    "such as init_app(app, name='shop'), or an engine of another place. If they "
                    "are one application, made twice, give it a name"
                )
            self._applications.pop(name, None)
            self._applications[name] = ref(runtime)

    @property
    def latest(self) -> Runtime:
        """The application that was set up last; the default one of the process if there is none."""
        found = self._all()
        return found[-1] if found else default_runtime()

    def run(self, payload: str, attempt: int) -> None:
        """Run what has arrived; see `Engine.run`."""
        from bgadapters.core.sending.received import refuse, run_received

        name = _application_in(payload)
        runtime = self._named(name)
        if runtime is not None:
            run_received(runtime, payload, attempt)
        else:
            names = ", ".join(repr(each.name) for each in self._all()) or "none that is still there"
            missing = LookupError(
                f"it is of the application {name!r}, and this process has set up {names}"
            )
            refuse(self.latest, payload, missing)

    def _named(self, name: str) -> Runtime | None:
        """Return the application of a name; None if what there is is another one for certain."""
        found = self._all()
        for each in found:
            if each.name == name:
                return each
        if not self._applications:
            return default_runtime()
        is_another = len(found) > 1 or (found and name and found[0].settings.name)
        return None if is_another or not found else found[0]

    def _all(self) -> list[Runtime]:
        with self._lock:
            found = [each() for each in self._applications.values()]
        return [each for each in found if each is not None]


def _is_another(known: ref[Runtime], runtime: Runtime) -> bool:
    """Whether an application is still there beside a later one. In tests one follows another."""
    if known() in {None, runtime} or mode.active is not mode.SERVING:
        return False
    gc.collect()  # one that was made for a moment may be held by a cycle
    return known() is not None


def _application_in(payload: str) -> str:
    try:
        said: Any = json.loads(payload)
        return str(said.get(NAME) or "")
    except (ValueError, AttributeError):  # somebody else wrote it
        return ""
