"""How a task is treated: the options of ``options(...)``."""

from __future__ import annotations

from typing import NamedTuple, TypedDict


class Options(NamedTuple):
    """How a task is treated. ``options(...)`` accepts these names and no others."""

    always: bool = False
    """Run even when the response failed and the other tasks are discarded."""
    name: str | None = None
    """What logs and events call the task. Default: the function's qualified name."""
    on_commit: bool = True
    """Run only if the transaction commits in which it was added, where the framework has those."""
    key: str | None = None
    on_duplicate: str = "replace"
    concurrency: str | None = None
    priority: int = 0
    delay: float = 0


class OptionNames(TypedDict, total=False):
    """The keyword arguments of ``options(...)``, for type checkers."""

    always: bool
    name: str | None
    on_commit: bool
    key: str | None
    on_duplicate: str
    concurrency: str | None
    priority: int
    delay: float


_ACCEPTED: dict[str, tuple[tuple[type, ...], str]] = {
    "always": ((bool,), "True or False"),
    "name": ((str, type(None)), "a string or None"),
    "on_commit": ((bool,), "True or False"),
    "key": ((str,), "a string"),
    "on_duplicate": ((str,), "a string"),
    "concurrency": ((str,), "a string"),
    "priority": ((int,), "a number"),
    "delay": ((int,float), "a number"),
}
DEFAULT_OPTIONS = Options()


def checked_options(base: Options, given: OptionNames) -> Options:
    """Return ``base`` with the options in ``given``.

    Raises:
        TypeError: a name that is not accepted, or a value of the wrong type.
    """
    for name, value in given.items():
        if name not in _ACCEPTED:
            accepted = ", ".join(f"{n}= ({what})" for n, (_, what) in _ACCEPTED.items())
            raise TypeError(f"options() got an unknown option {name!r}; it accepts {accepted}")
        types, what = _ACCEPTED[name]
        if not isinstance(value, types):
            raise TypeError(f"options({name}=...) accepts {what}, not {value!r}")
    return base._replace(**given)
