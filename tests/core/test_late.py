"""A signal handler finds nothing of a module that is being imported, or the whole."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from bgadapters.core.model.late import import_whole
from tests.core.ways import PATIENCE, Log, lines_of

MakeModule = Callable[[str], str]

_numbers = count()


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGUSR1)
    yield
    signal.signal(signal.SIGUSR1, handler)


@pytest.fixture
def make_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    monkeypatch.syspath_prepend(tmp_path)

    def make(source: str) -> str:
        name = f"imported_late_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return make


SIGNALLED = "import signal\nsignal.raise_signal(signal.SIGUSR1)\nis_whole = True\n"


def test_a_handler_waits_until_the_module_is_whole(make_module: MakeModule, log: Log) -> None:
    def handle(number: int, _: object) -> None:
        log.append((number, sys.modules[name].is_whole))

    signal.signal(signal.SIGUSR1, handle)
    name = make_module(SIGNALLED)
    assert import_whole(name) is sys.modules[name]
    assert log == [(signal.SIGUSR1, True)]
    assert signal.getsignal(signal.SIGUSR1) is handle
    import_whole(name)
    assert len(log) == 1


def test_what_a_handler_raises_is_raised_when_the_module_is_whole(make_module: MakeModule) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGUSR1, interrupt)
    name = make_module(SIGNALLED)
    with pytest.raises(KeyboardInterrupt):
        import_whole(name)
    assert signal.getsignal(signal.SIGUSR1) is interrupt
    assert import_whole(name).is_whole


def test_a_handler_that_has_waited_is_called_though_one_before_it_has_raised(
    make_module: MakeModule, log: Log
) -> None:
    def handle(*_: object) -> None:
        log.append("handled")
        if len(log) == 1:
            raise KeyboardInterrupt

    signal.signal(signal.SIGUSR1, handle)
    with pytest.raises(KeyboardInterrupt):
        import_whole(make_module(f"{SIGNALLED}signal.raise_signal(signal.SIGUSR1)\n"))
    assert log == ["handled"] * 2


def test_a_handler_that_imports_the_module_too_finds_it(make_module: MakeModule, log: Log) -> None:
    def handle(*_: object) -> None:
        log.append(import_whole(name).is_whole)

    signal.signal(signal.SIGUSR1, handle)
    name = make_module(SIGNALLED)
    import_whole(name)
    assert log == [True]


def test_a_handler_that_the_module_sets_stays(make_module: MakeModule) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    name = make_module("import signal\ndef own(*_): ...\nsignal.signal(signal.SIGUSR1, own)\n")
    module = import_whole(name)
    assert signal.getsignal(signal.SIGUSR1) is module.own


def test_a_signal_that_comes_as_handlers_are_put_back_is_handled(
    make_module: MakeModule, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    getsignal = signal.getsignal

    def raise_meanwhile(number: int) -> object:
        if number == signal.SIGUSR1 and name in sys.modules:
            signal.raise_signal(number)
        return getsignal(number)

    signal.signal(signal.SIGUSR1, lambda *_: log.append("handled"))
    name = make_module("")
    monkeypatch.setattr(signal, "getsignal", raise_meanwhile)
    import_whole(name)
    assert log == ["handled"]


def test_a_module_that_fails_is_imported_again(make_module: MakeModule, log: Log) -> None:
    signal.signal(signal.SIGUSR1, handle := lambda *_: log.append("handled"))
    name = make_module(f"{SIGNALLED}raise OSError\n")
    for _ in range(2):
        with pytest.raises(OSError, match=r"^$"):
            import_whole(name)
    assert log == ["handled"] * 2
    assert signal.getsignal(signal.SIGUSR1) is handle


def test_in_another_thread_no_handler_waits(make_module: MakeModule, log: Log) -> None:
    signal.signal(signal.SIGUSR1, handle := lambda *_: None)
    name = make_module("import signal\nhandler = signal.getsignal(signal.SIGUSR1)\n")
    thread = threading.Thread(target=lambda: log.append(import_whole(name).handler))
    thread.start()
    thread.join(PATIENCE)
    assert log == [handle]


_SCRIPT = """
import signal, sys
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
            signal.raise_signal(signal.SIGUSR1)

signal.signal(signal.SIGUSR1, handle)
sys.meta_path.insert(0, Finder())
use()
bgadapters.stats()
print(bgadapters.drain(20))
handled = happened.count("handled")
print(handled > 10, happened.count("ran") - 4 * (handled + 1))
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
