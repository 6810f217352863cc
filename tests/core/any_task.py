"""Tasks that do anything a task may do, and what is noted of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, get_args

from hypothesis import strategies as st

from bgadapters import NoRetry, Retry, TaskEvent, current_task
from bgadapters.adapters import Outcome
from bgadapters.core.drivers.timer import Timer
from bgadapters.core.model.batch import Batch
from tests.core.test_limits import Gauge
from tests.core.ways import PATIENCE

SOON, LATER = 5.0, 1000.0  # a drain with patience waits for the one and not for the other
ENDS = get_args(Outcome)


class HandTimer(Timer[Batch]):
    """A timer without a thread: a test says how much time has passed."""

    def __init__(self, wake: Callable[[Batch], None]) -> None:
        super().__init__(1000, wake)
        self.wake = wake

    def _start_thread(self) -> bool:
        return True

    def pass_time(self, until: float) -> None:
        """Wake what is due until then."""
        for each in self.take(lambda _, due: due <= until):
            self.wake(each)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)


class Gate:
    """Keeps tasks of both kinds from ending until it is opened."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._opened = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    def open(self) -> None:
        """Let everybody go on, for good."""
        with self._lock:
            self._opened.set()
            for loop, event in self._waiting:
                with suppress(RuntimeError):  # it was closed
                    loop.call_soon_threadsafe(event.set)

    def wait(self) -> None:
        """Wait in this thread."""
        assert self._opened.wait(2 * PATIENCE)

    async def await_it(self) -> None:
        """Wait on this loop."""
        event = asyncio.Event()
        with self._lock:
            if self._opened.is_set():
                return
            self._waiting.append((asyncio.get_running_loop(), event))
        await event.wait()


class Spec(NamedTuple):
    """A task: its kind, what it does in each attempt, and its options."""

    kind: str
    does: Sequence[str]
    options: dict[str, Any]
    child: Spec | None = None
    forgets: str | None = None

    @property
    def is_limited(self) -> bool:
        """Whether an attempt may take longer than it may."""
        return bool(self.options["timeout"] == TIGHT)


TIGHT = 0.001  # a timeout that comes while a task waits for it


def _never(_: Exception) -> bool:
    return False


def _raises(*_: Any) -> Any:
    raise ZeroDivisionError


def _soon(_: int, __: Exception) -> float:
    return SOON


_OPTIONS = st.fixed_dictionaries(
    {
        "retries": st.integers(0, 3),
        "backoff": st.sampled_from([0.0, SOON, _soon, SOON, _raises]),
        "timeout": st.sampled_from([TIGHT, 60.0, None]),
    },
    optional={
        "run_on": st.sampled_from(["success", "error", "always"]),
        "on_commit": st.booleans(),
        "retry_on": st.sampled_from([OSError, (ValueError, OSError), ValueError, _never, _raises]),
        "max_backoff": st.sampled_from([0.0, LATER]),
        "delay": st.sampled_from([0.0, SOON, LATER]),
        "priority": st.sampled_from([-1, 0, 7]),
        "key": st.sampled_from("ab"),
        "on_duplicate": st.sampled_from(["replace", "keep"]),
        "concurrency": st.sampled_from(["one", "two"]),
    },
)
_DOES = st.lists(
    st.sampled_from(
        ["fail", "retry", "hang", "gate", "fail", "retry", "soon", "later", "no", "exit", "end"]
    ),
    min_size=1,
    max_size=3,
)
_CHILDREN = st.builds(
    Spec, st.sampled_from(["sync", "async"]), _DOES, _OPTIONS, st.none(), st.none()
)
SPECS = st.builds(
    Spec,
    st.sampled_from(["sync", "async", "returns"]),
    _DOES,
    _OPTIONS,
    st.none() | _CHILDREN,
    st.none() | st.sampled_from("ab"),
)


def expected(spec: Spec) -> tuple[str, int]:
    """How a task ends that nobody keeps from it, and in which attempt."""
    options = spec.options
    tries_errors = options.get("retry_on", Exception) in (Exception, OSError, (ValueError, OSError))
    backs_off = options["backoff"] is not _raises
    for attempt in range(1, 10):
        does = spec.does[attempt - 1] if attempt <= len(spec.does) else "end"
        if does in {"end", "gate", "hang"}:  # what hangs without a timeout ends
            return "succeeded", attempt
        is_tried = {
            "fail": tries_errors and backs_off,
            "retry": backs_off,
            "soon": True,
            "later": True,
        }.get(does, False)
        if not is_tried or attempt > options["retries"]:
            return "failed", attempt
    raise AssertionError(spec)


class Job:
    """One task that was added: its function, and what is noted of its attempts.

    Args:
        name: that of the task.
        spec: what it is to be.
        gauges: of the limits.
        faults: where what is wrong is put.
        act: called in the first attempt.
    """

    def __init__(
        self,
        name: str,
        spec: Spec,
        gauges: dict[str, Gauge],
        faults: list[str],
        act: Callable[[Job], None],
    ) -> None:
        self.name = name
        self.spec = spec
        self.gate = Gate()
        self.told: list[tuple[str, int]] = []
        self.attempts: list[int] = []
        self.exceptions: list[BaseException | None] = []  # of the response, as attempts saw it
        self._limit = gauges.get(spec.options.get("concurrency", ""), Gauge())
        self._alone = Gauge()
        self._faults = faults
        self._act = act
        self._overdue = threading.Event()

    def __repr__(self) -> str:
        return f"<{self.name}: {self.spec}, {self.told}>"

    @property
    def outcomes(self) -> list[str]:
        """The outcomes that were told."""
        return [kind for kind, _ in list(self.told) if kind in ENDS]

    @property
    def is_running(self) -> bool:
        """Whether an attempt runs."""
        return self._alone.now > 0

    def note(self, event: TaskEvent) -> None:
        """Hear of an event."""
        self.told.append((event.kind, event.attempt))
        if event.kind == "overdue":
            self._overdue.set()

    def func(self) -> Any:
        """Return what is to be added."""
        if self.spec.kind == "async":
            return self._acall
        return self._returns if self.spec.kind == "returns" else self._call

    def _call(self) -> None:
        with self._attempt() as does:
            if does == "gate":
                self.gate.wait()
            elif does == "hang" and self.spec.is_limited:
                self._expect(self._overdue.wait(PATIENCE), "is not told to be overdue")
            self._end(does)

    def _returns(self) -> Any:
        return self._acall()

    async def _acall(self) -> None:
        with self._attempt() as does:
            if does == "gate":
                await self.gate.await_it()
            elif does == "hang" and self.spec.is_limited:
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(0)
            self._end(does)

    @contextmanager
    def _attempt(self) -> Iterator[str]:
        with self._alone.running(), self._limit.running():
            self._expect(self._alone.now == 1, "runs twice at one time")
            number = len(self.attempts) + 1
            self.attempts.append(number)
            self._look_at_the_task(number)
            self._overdue.clear()
            if number == 1:
                self._act(self)
            does = self.spec.does
            yield does[number - 1] if number <= len(does) else "end"

    def _look_at_the_task(self, number: int) -> None:
        outcomes = self.outcomes
        self._expect(set(outcomes) <= {"abandoned"}, f"begins after {outcomes}")
        task = current_task()
        if task is None:  # a drain has given up on it, and on its queue
            self._expect(outcomes == ["abandoned"], "knows of no task")
            return
        self._expect((task.name, task.attempt) == (self.name, number), f"is told {task!r}")
        self._expect(
            (task.deadline is None) == (self.spec.options["timeout"] is None),
            "has another deadline",
        )
        response = task.response
        self.exceptions.append(None if response is None else response.exception)

    def _end(self, does: str) -> None:
        if does == "fail":
            raise OSError
        if does == "no":
            raise NoRetry
        if does == "exit":
            raise SystemExit
        if does in {"retry", "soon", "later"}:
            raise Retry(delay={"retry": None, "soon": SOON, "later": LATER}[does])

    def _expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            self._faults.append(f"{self.name} {what}: {self.spec}, {self.told}")
