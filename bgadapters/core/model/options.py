"""How a task is treated: the options of ``options(...)``, ``@task_options`` and ``defaults``."""

from __future__ import annotations

from _thread import TIMEOUT_MAX
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, Unpack

from bgadapters.core.model import lines
from bgadapters.core.model.late import import_whole

if TYPE_CHECKING:
    from datetime import datetime

RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Which exceptions of an attempt are worth another one."""
Backoff = float | Callable[[int, Exception], float]
"""How long to wait for the next attempt: seconds, or a function of attempt and exception."""
RunOn = Literal["success", "error", "always"]
OnDuplicate = Literal["replace", "keep"]
Send = Literal["after_response", "before_response", "in_transaction"]
"""When a task for an engine is sent."""
LOCAL = "local"
"""The engine that is none: the task runs in this process."""


class Options(NamedTuple):
    """How a task is treated. ``options(...)`` accepts these names and no others."""

    always: bool = False
    """Run even when the response failed and the other tasks are discarded: the short form of
    ``run_on="always"``."""
    name: str | None = None
    """What logs and events call the task. Default: the function's qualified name."""
    on_commit: bool = True
    """Run only if the transaction commits in which it was added, where the framework has those."""
    run_on: RunOn = "success"
    """Which end of the response the task is for: ``"success"``, ``"error"`` or ``"always"``."""
    retries: int = 0
    """How many further attempts a task gets that has raised."""
    retry_on: RetryOn = Exception
    """Which exceptions are worth another attempt: types, or a function that tells."""
    backoff: Backoff = 1.0
    """Seconds to wait for the second attempt, at most; doubled for each further one. Each wait is
    a random part of that. Or a function that gets the number of the attempt that has failed, from
    1, and its exception, and returns the seconds to wait, which nothing else bounds."""
    max_backoff: float = 600.0
    """Seconds that a wait takes at most that is doubled."""
    timeout: float | None = None
    """Seconds that an attempt may take. Default: as long as it likes."""
    delay: float = 0.0
    """Seconds from the release of the task to its start, at least."""
    run_after: datetime | None = None
    """The time before which the task does not start."""
    priority: int = 0
    """Among tasks that wait for a worker, those with a higher one go first."""
    key: str | None = None
    """Of the released tasks that wait with the same key one counts."""
    on_duplicate: OnDuplicate = "replace"
    """Which one: the latest (``"replace"``) or that which waits already (``"keep"``)."""
    concurrency: str | None = None
    """The name of a limit in the setting ``concurrency``, for tasks that run side by side."""
    durable: bool = False
    """Keep the task in the setting ``store`` until it has run, whatever becomes of the process."""
    session: Any = None
    """A session of SQLAlchemy, in whose transaction a durable task is kept, or one is sent."""
    engine: str = LOCAL
    """Where the task runs: a name from the setting ``engines``, ``"local"`` for this process or
    ``"process"`` for a pool of processes beside it."""
    send: Send = "after_response"
    """When a task for an engine is sent: ``"after_response"``, like any other task;
    ``"before_response"``, before the first byte, so that a success says that the engine has it; or
    ``"in_transaction"``, as a part of the transaction that is open here."""


class OptionNames(TypedDict, total=False):
    """The keyword arguments of ``options(...)``, for type checkers."""

    always: bool
    name: str | None
    on_commit: bool
    run_on: RunOn
    retries: int
    retry_on: RetryOn
    backoff: Backoff
    max_backoff: float
    timeout: float | None
    delay: float
    run_after: datetime | None
    priority: int
    key: str | None
    on_duplicate: OnDuplicate
    concurrency: str | None
    durable: bool
    session: Any
    engine: str
    send: Send


DEFAULT_OPTIONS = Options()

_PLAIN = {"always", "name", "on_commit", "run_on"}
"""What the task itself need not know: its batch does."""
_EXCLUSIVE = {"always": "run_on", "run_on": "always", "delay": "run_after", "run_after": "delay"}
"""Options that say the same in two ways: the later word counts, whichever it is."""


class TaskOptions:
    """A set of options, to be kept and used by name.

    ::

        webhooks = TaskOptions(retries=5, timeout=10)

        background_tasks.options(webhooks).add_task(post, url)
        background_tasks.options(webhooks, delay=60).add_task(post, url)

        @task_options(webhooks)
        def post(url: str) -> None: ...

    It cannot be changed.

    Args:
        base: a set to begin with. Default: none.
        options: see `Options`; they go before those of ``base``.

    Raises:
        TypeError: an option that is not accepted, a value that is none of its values, or two
            options that contradict each other.
    """

    __slots__ = ("_given", "_over_defaults")

    def __init__(self, base: TaskOptions | None = None, /, **options: Unpack[OptionNames]) -> None:
        self._given = _merged(base, options, type(self).__name__)
        self._over_defaults: Options | None = None

    @classmethod
    def parsed(
        cls, base: TaskOptions | None, options: Mapping[str, Any], label: str
    ) -> TaskOptions:
        """Do as the constructor; errors call it ``label``."""
        if base is None and _SIMPLE.issuperset(map(type, options.values())):
            return _parsed(label, **options)
        parsed = cls()
        parsed._given = _merged(base, options, label)
        return parsed

    def over(self, base: Options) -> Options:
        """Return ``base`` with these options in the place of its own."""
        if not self._given:
            return base
        if base is not DEFAULT_OPTIONS:
            return self._over(base)
        if self._over_defaults is None:
            self._over_defaults = self._over(base)
        return self._over_defaults

    def _over(self, base: Options) -> Options:
        fields: dict[str, Any] = dict(self._given)
        if "always" in fields:
            fields["run_on"] = "always" if fields["always"] else "success"
        elif "run_on" in fields:
            fields["always"] = fields["run_on"] == "always"
        if fields.get("delay"):
            fields.setdefault("run_after", None)
        elif fields.get("run_after") is not None:
            fields["delay"] = 0.0
        return base._replace(**fields)

    def based_on(self, base: TaskOptions) -> TaskOptions:
        """Return ``base`` with these options added, which go before its own."""
        return self.parsed(base, self._given, "")

    def only(self, names: set[str]) -> TaskOptions:
        """Return those of these names."""
        given = {name: value for name, value in self._given.items() if name in names}
        return self.parsed(None, given, "")

    @property
    def given(self) -> Mapping[str, Any]:
        """Those that were given, by name."""
        return MappingProxyType(self._given)

    @property
    def is_plain(self) -> bool:
        """Whether none of them changes when or how often the task is called."""
        return _PLAIN.issuperset(self._given) and self._given.get("run_on") != "error"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TaskOptions) and self._given == other._given

    def __hash__(self) -> int:
        return hash(frozenset(self._given))

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self._given.items())
        return f"TaskOptions({given})"


_SIMPLE = {bool, int, float, str, type(None)}


@lru_cache(maxsize=256, typed=True)  # each request of a view gives the same ones
def _parsed(label: str, /, **options: Any) -> TaskOptions:
    parsed = TaskOptions()
    parsed._given = _merged(None, options, label)  # noqa: SLF001  of this module
    return parsed


def _merged(base: Any, given: Mapping[str, Any], label: str) -> Mapping[str, Any]:
    if base is not None and not isinstance(base, TaskOptions):
        raise TypeError(
            f"{label}() accepts a TaskOptions and options by name, not {shown(base)}: "
            f"{label}(TaskOptions(...), name=value)"
        )
    _check(given, label)
    merged = {} if base is None else dict(base._given)  # noqa: SLF001  its own class
    for name in given:
        merged.pop(_EXCLUSIVE.get(name, ""), None)
    return {**merged, **given}


def _check(given: Mapping[str, Any], label: str) -> None:
    for name, value in given.items():
        if name not in _ACCEPTED:
            accepted = ", ".join(f"{n}= ({what})" for n, (_, what) in _ACCEPTED.items())
            raise TypeError(f"{label}() got an unknown option {name!r}; it accepts {accepted}")
        is_accepted, what = _ACCEPTED[name]
        if not is_accepted(value):
            raise TypeError(f"{label}({name}=...) accepts {what}, not {shown(value)}")
    if {"always", "run_on"} <= given.keys() and given["always"] != (given["run_on"] == "always"):
        raise TypeError(
            f"{label}(always={given['always']}, run_on={given['run_on']!r}) contradicts itself: "
            "always=True is the short form of run_on='always'. Leave one of them away."
        )
    if given.get("delay") and given.get("run_after") is not None:
        raise TypeError(
            f"{label}(delay=..., run_after=...) says twice when the task is to start. Leave one "
            "of them away."
        )


def shown(value: object) -> str:
    """Return the repr of what was given; the name of its type where that fails."""
    return lines.text(lambda: repr(value), lines.name_of_type(value))


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return value is None or isinstance(value, str)


def _is_word(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value != "")


def _is_moment(value: Any) -> bool:
    import_whole("datetime")  # here, since few tasks have a time
    from datetime import datetime

    return value is None or isinstance(value, datetime)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_seconds(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= TIMEOUT_MAX


def _is_retry_on(value: Any) -> bool:
    if isinstance(value, (type, tuple)):
        types = value if isinstance(value, tuple) else (value,)
        return all(isinstance(each, type) and issubclass(each, Exception) for each in types)
    return _is_plain_function(value)


def _is_plain_function(value: Any) -> bool:
    """Whether this is called, and not awaited: drivers ask it where no event loop runs, too."""
    if not callable(value):
        return False
    import_whole("inspect")
    from inspect import iscoroutinefunction

    called = (value, getattr(value, "__call__", None))  # noqa: B004  its value, not its presence
    return not any(iscoroutinefunction(each) for each in called)


_SECONDS = f"a number of seconds from 0 to {TIMEOUT_MAX:.0f}"

_ACCEPTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "always": (_is_bool, "True or False"),
    "name": (_is_text, "a string or None"),
    "on_commit": (_is_bool, "True or False"),
    "run_on": (
        lambda value: value in ("success", "error", "always"),
        "'success', 'error' or 'always'",
    ),
    "retries": (lambda value: _is_whole(value) and value >= 0, "a whole number from 0"),
    "retry_on": (
        _is_retry_on,
        "a subclass of Exception, a tuple of those, or a function of an exception",
    ),
    "backoff": (
        lambda value: _is_seconds(value) or _is_plain_function(value),
        f"{_SECONDS}, or a function of attempt and exception",
    ),
    "max_backoff": (_is_seconds, _SECONDS),
    "timeout": (
        lambda value: value is None or (_is_seconds(value) and value > 0),
        "a number of seconds above 0, or None",
    ),
    "delay": (_is_seconds, _SECONDS),
    "run_after": (_is_moment, "a datetime or None"),
    "priority": (
        lambda value: _is_whole(value) and -100 <= value <= 100,
        "a whole number from -100 to 100",
    ),
    "key": (_is_word, "a string that is not empty, or None"),
    "on_duplicate": (lambda value: value in ("replace", "keep"), "'replace' or 'keep'"),
    "concurrency": (_is_word, "the name of a limit in the setting 'concurrency', or None"),
    "durable": (_is_bool, "True or False"),
    "session": (
        lambda value: value is None or hasattr(value, "execute"),
        "a session that the setting 'store' or the engine knows, or None",
    ),
    "engine": (
        lambda value: isinstance(value, str) and value != "",
        "'local', 'process' or a name from the setting 'engines'",
    ),
    "send": (
        lambda value: value in ("after_response", "before_response", "in_transaction"),
        "'after_response', 'before_response' or 'in_transaction'",
    ),
}

NO_OPTIONS = TaskOptions()
