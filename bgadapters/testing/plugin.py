"""The pytest plugin: there without configuration where this package is installed.

Each test has a `Recorder` from the set-up of its first fixture to the tear-down of its last. A
task that failed fails the phase it failed in, with its own traceback. What still runs when the
test has returned is waited for while its fixtures are there, and once more after them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import TIMEOUT_MAX
from typing import Any
from unittest import SkipTest

import pytest

from bgadapters.testing.mode import observed_by
from bgadapters.testing.recorder import LeakedTasksError, Recorder

_MODES = ("run", "capture", "off")
_OPTIONS = ("strict_portable", "ignore_failures", "real_time")
_MARKER = "background_tasks"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the settings that a project may make for all of its tests."""
    parser.addini(
        "background_tasks_mode", "run, capture, or off: for tests without a mark", default="run"
    )
    parser.addini(
        "background_tasks_timeout",
        "seconds that the end of a test waits for background tasks",
        default="10",
    )
    parser.addini(
        "background_tasks_strict_portable",
        "refuse tasks that could not be sent to another process",
        type="bool",
        default=False,
    )
    parser.addini(
        "background_tasks_real_time",
        "have background tasks wait for their time, and between two attempts",
        type="bool",
        default=False,
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark; refuse impossible settings.

    Raises:
        pytest.UsageError: a mode or a timeout that is not accepted.
    """
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(mode, strict_portable=False, ignore_failures=False, real_time=False): "
        "what becomes of background tasks in this test; the mode is run, capture or off",
    )
    mode = config.getini("background_tasks_mode")
    if mode not in _MODES:
        raise pytest.UsageError(f"background_tasks_mode {_accepts_modes(mode)}")
    _timeout(config)


class _Watch:
    """The recorder of one test.

    Attributes:
        problem: what became of its tasks, while no report has shown it.
    """

    def __init__(self, recorder: Recorder, timeout: float) -> None:
        self.recorder = recorder
        self.problem: BaseException | None = None
        self._timeout = timeout
        self._block = observed_by(recorder, as_outermost=True)

    def begin(self) -> None:
        self._block.__enter__()

    def end(self) -> None:
        self._block.__exit__(None, None, None)

    def settle(self, exception: BaseException | None = None) -> None:
        """Judge when the test has returned."""
        self._judge(self.recorder.settle, exception)

    def finish(self, exception: BaseException | None = None) -> None:
        """Judge when the last fixture was torn down."""
        if self.problem is not None:
            self.recorder.postpone(self.problem)
        self._judge(self.recorder.finish, exception)

    def _judge(
        self, judge: Callable[[float, BaseException | None], None], exception: BaseException | None
    ) -> None:
        __tracebackhide__ = True
        self.problem = None
        try:
            judge(self._timeout, exception)
        except (KeyboardInterrupt, pytest.exit.Exception):
            raise
        except LeakedTasksError as leak:
            self.problem = pytest.fail.Exception(str(leak), pytrace=False)
        except BaseException as problem:
            self.problem = problem

    def tell(self) -> None:
        """Raise the problem, if there is one."""
        # A message has no traceback: one frame has to be seen, or pytest would remark on it.
        __tracebackhide__ = self.problem is None or self.problem.__traceback__ is not None
        if self.problem is not None:
            raise self.problem


_WATCH = pytest.StashKey[_Watch]()


@pytest.fixture
def background_tasks(request: pytest.FixtureRequest) -> Recorder:
    """The background tasks of this test: what was added, what became of it, assertions."""
    watch: _Watch | None = request.node.stash.get(_WATCH, None)
    if watch is None:
        pytest.fail(
            "the fixture background_tasks means nothing where their mode is 'off'", pytrace=False
        )
    return watch.recorder


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    """Begin to observe."""
    __tracebackhide__ = True
    watch = _watch_of(item)
    if watch is not None:
        item.stash[_WATCH] = watch
        watch.begin()
    yield
    if watch is not None:
        watch.recorder.raise_failures()


@pytest.hookimpl(tryfirst=True, specname="pytest_runtest_setup")
def pytest_runtest_setup_of_a_mark(item: pytest.Item) -> None:
    """Refuse a mark that means nothing, with an error of its test.

    If the collection failed, xdist would not say why.
    """
    for mark in item.iter_markers(_MARKER):
        refusal = _refusal(mark)
        if refusal is not None:
            pytest.fail(f"the mark {_MARKER} {refusal}", pytrace=False)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None]:
    """Judge when the test has returned, before its fixtures are torn down."""
    __tracebackhide__ = True
    watch = item.stash.get(_WATCH, None)
    if watch is None:
        return (yield)
    try:
        yield
    except (pytest.skip.Exception, SkipTest):
        watch.settle()
        raise
    except BaseException as exc:
        watch.settle(exc)
        raise
    watch.settle()
    watch.tell()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """See whether the report of a test shows what has become of its tasks.

    That of a skipped one does not, nor that of a ``unittest.TestCase`` which has failed by itself:
    pytest puts what the test case tells in the place of what was raised. The tear-down tells then.
    """
    report = yield
    watch = item.stash.get(_WATCH, None)
    if watch is not None and call.excinfo is not None and call.excinfo.value is watch.problem:
        watch.problem = None
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Judge when the last fixture was torn down, and observe no more."""
    __tracebackhide__ = True
    watch = item.stash.get(_WATCH, None)
    if watch is None:
        return (yield)
    del item.stash[_WATCH]
    try:
        yield
    except BaseException as exc:
        watch.finish(exc)
        raise
    else:
        watch.finish()
        watch.tell()
    finally:
        watch.end()


def _watch_of(item: pytest.Item) -> _Watch | None:
    mode, options = _chosen(item)
    if mode == "off":
        return None
    recorder = Recorder("capture" if mode == "capture" else "run", **options)
    return _Watch(recorder, _timeout(item.config))


def _chosen(item: pytest.Item) -> tuple[str, dict[str, bool]]:
    """The mode and the options of a test: those of its closest mark, else the project's."""
    mode: str = item.config.getini("background_tasks_mode")
    options = {
        name: item.config.getini(f"background_tasks_{name}")
        for name in ("strict_portable", "real_time")
    }
    for mark in reversed(list(item.iter_markers(_MARKER))):  # the closest one last
        if _refusal(mark) is None:
            given = _given(mark)
            mode = given.pop("mode", mode)
            options |= given
    return mode, options


def _given(mark: pytest.Mark) -> dict[str, Any]:
    return {**dict(zip(("mode",), mark.args, strict=False)), **mark.kwargs}


def _refusal(mark: pytest.Mark) -> str | None:
    """What to say of a mark that means nothing."""
    given = _given(mark)
    unknown = [*map(repr, mark.args[1:]), *(given.keys() - {"mode", *_OPTIONS})]
    if unknown:
        return f"accepts mode, {', '.join(_OPTIONS)}; not {', '.join(sorted(unknown))}"
    return None if given.get("mode", "run") in _MODES else _accepts_modes(given["mode"])


def _accepts_modes(mode: object) -> str:
    return f"accepts {', '.join(_MODES)}; not {mode!r}"


def _timeout(config: pytest.Config) -> float:
    given = config.getini("background_tasks_timeout")
    try:
        timeout = float(given)
    except ValueError:
        timeout = -1.0
    if not 0 <= timeout <= TIMEOUT_MAX:
        raise pytest.UsageError(
            f"background_tasks_timeout accepts a number of seconds from 0, not {given!r}"
        )
    return timeout
