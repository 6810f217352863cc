"""A signal handler finds nothing of a module that is being imported, or the whole."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bgadapters.core.model.late import import_whole
from tests.core.ways import PATIENCE, Log, lines_of

MakeModule = Callable[[str], str]

_numbers = count()


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    handler, interval = signal.getsignal(signal.SIGUSR1), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # or a short import would be over before a handler could be called
    yield
    sys.setswitchinterval(interval)
    signal.signal(signal.SIGUSR1, handler)


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    monkeypatch.syspath_prepend(tmp_path)

    def make(source: str) -> str:
        name = f"imported_late_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return make


SIGNALLED = "import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)\n{}\nis_whole = True\n"
LONG = SIGNALLED.format("for _ in range(100_000): pass")


@contextmanager
def busy_thread() -> Iterator[None]:
    """One that takes turns with the others, at each of which handlers are called."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            pass

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(PATIENCE)


@pytest.mark.parametrize("others", [False, True])
def test_a_handler_waits_until_the_module_is_whole(
    make_module: MakeModule, log: Log, others: bool
) -> None:
    """Also where another thread is there, which is given the signal."""

    def handle(number: int, _: object) -> None:
        log.append((number, import_whole(name).is_whole))

    signal.signal(signal.SIGUSR1, handle)
    name = make_module(LONG)
    with busy_thread() if others else nullcontext():
        assert import_whole(name) is sys.modules[name]
    assert log == [(signal.SIGUSR1, True)]
    import_whole(name)
    assert len(log) == 1


_RAISES = """
import signal, sys
from bgadapters.core.model.late import import_whole

def interrupt(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGUSR1, interrupt)
sys.setswitchinterval(1e-5)
sys.path.insert(0, {!r})
try:
    import_whole({!r})
except KeyboardInterrupt:
    print("interrupted", sys.modules[{!r}].is_whole, import_whole({!r}).is_whole)
"""


def test_what_a_handler_raises_is_raised_when_the_module_is_whole(
    make_module: MakeModule, tmp_path: Path
) -> None:
    """Where no other thread is there, which could be given the signal."""
    name = make_module(LONG)
    script = _RAISES.format(str(tmp_path), *[name] * 3)
    assert lines_of(script) == ["interrupted True True"]


def test_signals_are_not_blocked_any_more(make_module: MakeModule) -> None:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    import_whole(make_module(""))
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask


def test_where_no_signal_can_be_blocked(
    make_module: MakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(signal, "pthread_sigmask")
    name = make_module("")
    assert import_whole(name) is sys.modules[name]


def test_handlers_are_left_alone(make_module: MakeModule) -> None:
    """Those that a server has set in C would be lost: Python knows the ones before them."""
    signal.signal(signal.SIGUSR1, handle := lambda *_: None)
    name = make_module("import signal\nhandler = signal.getsignal(signal.SIGUSR1)\n")
    assert import_whole(name).handler is handle


def test_within_another_import_it_is_imported_here(make_module: MakeModule) -> None:
    """The other thread would wait for what this one imports, and this one for that thread."""
    inner = make_module("import threading\nimport {}\nthread = threading.current_thread()\n")
    outer = make_module(
        "from bgadapters.core.model.late import import_whole\n"
        f"thread = import_whole({inner!r}).thread\n"
    )
    path = Path(sys.path[0], f"{inner}.py")
    path.write_text(path.read_text().format(outer))
    assert import_module(outer).thread is threading.current_thread()


def test_without_another_thread_it_is_imported_here(
    make_module: MakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    name = make_module("import threading\nthread = threading.current_thread()\n")
    assert import_whole(name).thread is threading.main_thread()


@pytest.mark.parametrize("patched", [True, False])
def test_greenlets_do_not_wait_for_each_other(
    make_module: MakeModule, monkeypatch: pytest.MonkeyPatch, patched: bool
) -> None:
    """Others would run in the middle of what this one does."""
    start = _thread.start_new_thread

    def spawn(*args: Any) -> int:
        return start(*args)

    if patched:
        monkeypatch.setattr(_thread, "start_new_thread", spawn)
    name = make_module("import threading\nthread = threading.current_thread()\n")
    assert (import_whole(name).thread is threading.main_thread()) is patched


def test_a_module_that_fails_is_imported_again(make_module: MakeModule, log: Log) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: log.append("handled"))
    name = make_module(SIGNALLED.format("raise OSError"))
    for _ in range(2):
        with pytest.raises(OSError, match=r"^$"):
            import_whole(name)
    assert log == ["handled"] * 2


def test_another_thread_imports_it_by_itself(make_module: MakeModule) -> None:
    """No handler interrupts it."""
    name = make_module("import threading\nthread = threading.current_thread()\n")
    thread = threading.Thread(target=import_whole, args=(name,))
    thread.start()
    thread.join(PATIENCE)
    assert import_whole(name).thread is thread


_SCRIPT = """
import os, signal, sys
import bgadapters
from bgadapters import BackgroundTasks, task_options

happened, own = [], {"inspect", "datetime", "asyncio", "random"}

async def atask(): happened.append("ran")
def task(*, name="task"): happened.append("ran")

def use():
    with BackgroundTasks() as queue:
        queue.add_task(task, name="other")
        queue.add_task(atask)
        queue.options(retries=1, delay=0.01, timeout=10).add_task(task)
        queue.options(run_after=None, priority=1).add_task(atask)

def handle(*_):
    happened.append("handled")
    use()

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("bgadapters.") or name in own:
            os.kill(os.getpid(), signal.SIGUSR1)

signal.signal(signal.SIGUSR1, handle)
sys.meta_path.insert(0, Finder())
use()
bgadapters.stats()
print(bgadapters.drain(20))
handled = happened.count("handled")
print(handled > 4, happened.count("ran") - 4 * (handled + 1))
"""


def test_a_handler_may_add_tasks_while_what_runs_them_is_imported() -> None:
    assert lines_of(_SCRIPT) == ["[]", "True 0"]


_NO_FILES = """
import asyncio, errno, sys
import bgadapters.asgi
from bgadapters import BackgroundTasks, adrain

ran = []

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("bgadapters."):
            raise OSError(errno.EMFILE, "Too many open files", name)

async def atask(): ran.append("async")

async def main():
    async with BackgroundTasks() as queue:
        queue.add_task(ran.append, "sync")
        queue.add_task(atask)
    with BackgroundTasks() as queue:
        queue.add_task(atask)
    return await adrain(10)

bgadapters.adrain
sys.meta_path.insert(0, Finder())
print(asyncio.run(main()), ran)
"""


def test_under_asgi_the_first_task_opens_no_file() -> None:
    assert lines_of(_NO_FILES) == ["[] ['sync', 'async', 'async']"]
