"""``engine="process"``: tasks in local processes, with real ones."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from bgadapters import (
    BackgroundTasks,
    EngineUnavailableError,
    NoRetry,
    SettingsError,
    TaskEvent,
)
from bgadapters.adapters import FrameworkHooks, Runtime, parse_settings
from bgadapters.engines.process import ProcessEngine, WorkerDiedError, child, engine, raised, worker
from bgadapters.testing import run_tasks
from tests.core.ways import lines_of, run_script
from tests.engines import process_work as work

PATIENCE = 30.0


class Site:
    """An application with a pool of processes.

    Attributes:
        events: what was told.
        path: where tasks note what they did.
    """

    def __init__(self, path: Path, **given: Any) -> None:
        self.path = path
        given.setdefault("max_processes", 2)
        self.engine = ProcessEngine(**given)
        self.events: list[TaskEvent] = []
        settings: dict[str, Any] = {
            "engines": {"process": self.engine},
            "on_event": self.events.append,
        }
        self.runtime = Runtime(parse_settings(settings))

    def add(self, func: Callable[..., Any], *args: Any, **options: Any) -> None:
        options.setdefault("engine", "process")
        with BackgroundTasks(runtime=self.runtime) as queue:
            queue.options(**options).add_task(func, *args)

    def run(self, func: Callable[..., Any], *args: Any, **options: Any) -> TaskEvent:
        """Add one task; return how it has ended."""
        self.add(func, *args, **options)
        self.drain()
        return self.ended()[-1]

    def drain(self, timeout: float = PATIENCE) -> list[str]:
        return self.runtime.drain(timeout)

    def ended(self) -> list[TaskEvent]:
        return [each for each in self.events if each.outcome is not None]

    def failure(self) -> BaseException:
        found = self.ended()[-1].exception
        assert found is not None
        return found

    def notes(self) -> list[list[Any]]:
        return work.notes(self.path)

    def pids(self) -> set[int]:
        return {each[0] for each in self.notes()}


Make = Callable[..., Site]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Site] = []
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()

    def make(**given: Any) -> Site:
        made.append(Site(tmp_path / "notes", **given))
        return made[-1]

    yield make
    for site in made:
        assert site.drain() == []
        site.runtime.scheduler.background.stop()
        pool = site.engine._pool
        workers = set() if pool is None else set(pool._workers)
        site.engine.close()
        assert [each for each in workers if each.is_alive()] == []
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/fd")) <= len(before)


@pytest.fixture
def site(make: Make) -> Site:
    return make()


def eventually(condition: Callable[[], Any]) -> None:
    """Wait for what another process does, which has no event here."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "what the test waits for did not come to pass"
        time.sleep(0.005)


def is_there(pid: int) -> bool:
    """Whether a process is there that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


# What runs.


@pytest.mark.parametrize("func", [work.note, work.anote])
def test_a_task_runs_in_a_process_of_its_own(site: Site, func: Any) -> None:
    assert site.run(func, str(site.path), "ran").outcome == "succeeded"
    ((pid, what),) = site.notes()
    assert (what, pid != os.getpid()) == ("ran", True)


def test_on_an_event_loop_nothing_waits_for_it(site: Site) -> None:
    async def main() -> list[str]:
        site.add(work.note_and_burn, str(site.path), 0.5)
        turns = 0
        while not any(each[1] == "ended" for each in site.notes()):
            await asyncio.sleep(0.01)
            turns += 1
        assert turns > 5
        return await site.runtime.adrain(PATIENCE)

    assert asyncio.run(main()) == []


def test_a_process_runs_many_tasks_and_there_are_no_more_than_so_many(site: Site) -> None:
    for _ in range(12):
        site.add(work.note_and_burn, str(site.path), 0.02)
    site.drain()
    assert (len(site.ended()), len(site.pids())) == (12, 2)


def test_without_need_there_is_one(site: Site) -> None:
    for _ in range(4):
        site.run(work.note, str(site.path))
    assert len(site.pids()) == 1


def test_loops_that_end_leave_the_processes_to_others(site: Site) -> None:
    async def main() -> list[str]:
        site.add(work.note, str(site.path))
        return await site.runtime.adrain(PATIENCE)

    for _ in range(3):
        assert asyncio.run(main()) == []
    assert (len(site.notes()), len(site.pids())) == (3, 1)


def test_what_a_task_enqueues_there_runs_before_it_ends(site: Site) -> None:
    site.run(work.enqueue_more, str(site.path))
    assert [each[1] for each in site.notes()] == ["begun", "ended"]


def test_it_is_there_without_a_setting(tmp_path: Path) -> None:
    script = """
        import sys
        from bgadapters import BackgroundTasks
        from tests.engines import process_work as work

        with BackgroundTasks() as tasks:
            tasks.options(engine="process").add_task(work.note, sys.argv[1], "ran")
    """
    assert run_script(script, str(tmp_path / "notes")).returncode == 0
    assert [each[1] for each in work.notes(tmp_path / "notes")] == ["ran"]


def test_no_script_is_run_again(tmp_path: Path) -> None:
    """As multiprocessing would: it imports what was started, which may start a server."""
    (tmp_path / "work_of_it.py").write_text("def work(): print('worked', flush=True)\n")
    script = tmp_path / "server.py"
    script.write_text(
        "from bgadapters import BackgroundTasks\n"
        "import work_of_it\n"
        "print('begun', flush=True)\n"
        "with BackgroundTasks() as tasks:\n"
        "    tasks.options(engine='process').add_task(work_of_it.work)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout.split(), done.returncode) == (["begun", "worked"], 0)


def test_a_process_has_no_descriptors_of_the_server(site: Site) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    try:
        name = os.readlink(f"/proc/self/fd/{writer}")
        site.run(work.note_files, str(site.path))
    finally:
        os.close(reader)
        os.close(writer)
    ((_, files),) = site.notes()
    assert name not in files
    assert os.devnull in files  # standard input


def test_in_a_test_none_is_started(site: Site) -> None:
    with run_tasks():
        site.add(work.note, str(site.path), "ran")
    assert site.notes() == [[os.getpid(), "ran"]]
    assert site.engine._pool is None


# What it raises.


@pytest.mark.parametrize(
    "kind", ["ValueError", "FileNotFoundError", "OddError", "Unpicklable", "large"]
)
def test_what_it_raises_is_raised_here(site: Site, kind: str) -> None:
    expected = work.RAISED[kind]()
    assert site.run(work.fail, kind).outcome == "failed"
    failure = site.failure()
    assert (type(failure), str(failure)) == (type(expected), str(expected))
    (note,) = failure.__notes__
    assert note.startswith("Raised in process ")
    assert "process_work.py" in note
    assert all(line.startswith("    ") for line in note.splitlines()[1:])


@pytest.mark.parametrize(
    ("kind", "type_", "text"),
    [
        ("SystemExit", SystemExit, "3"),
        ("KeyboardInterrupt", KeyboardInterrupt, ""),
        ("NoRetry", NoRetry, "for good"),
    ],
)
def test_what_ends_no_process_and_is_not_tried_again(
    site: Site, kind: str, type_: Any, text: str
) -> None:
    site.run(work.fail, kind, retries=2)
    failure = site.failure()
    assert (type(failure), str(failure), site.ended()[-1].attempt) == (type_, text, 1)
    assert site.run(work.note, str(site.path)).outcome == "succeeded"


def test_a_class_that_is_not_imported_here_is_the_next_of_its_bases(site: Site) -> None:
    site.run(work.fail_with_a_class_of_its_own)
    failure = site.failure()
    assert type(failure) is LookupError
    assert str(failure) == "tests.engines.process_rare.RareError: rare"
    assert "tests.engines.process_rare" not in sys.modules


@pytest.mark.parametrize("kind", [work.Untold, work.Hostile])
def test_what_has_no_text_is_told_all_the_same(site: Site, kind: type[Exception]) -> None:
    site.run(work.fail, kind.__name__)
    assert type(site.failure()) is kind


@pytest.mark.parametrize(
    ("kind", "type_", "name"),
    [
        ("group", Exception, "builtins.ExceptionGroup: several"),
        ("OwnNew", ValueError, "tests.engines.process_work.OwnNew: <function"),
    ],
)
def test_a_class_that_none_can_be_made_of_is_the_next_of_its_bases(
    site: Site, kind: str, type_: type[Exception], name: str
) -> None:
    site.run(work.fail, kind)
    failure = site.failure()
    assert type(failure) is type_
    assert str(failure).startswith(name)


def test_of_a_text_without_end_the_middle_is_left_out(site: Site) -> None:
    site.run(work.fail, "endless")
    text = str(site.failure())
    assert len(text) < 4_000_100
    assert text.startswith("xxx")
    assert "[... 5000000 characters ...]" in text


def test_attempts_are_by_the_class_of_what_was_raised(site: Site) -> None:
    given: dict[str, Any] = {"retries": 2, "backoff": 0.0, "retry_on": (OSError,)}
    site.run(work.fail_each_time, str(site.path), "FileNotFoundError", **given)
    site.run(work.fail_each_time, str(site.path), "ValueError", **given)
    site.run(work.fail_each_time, str(site.path), "Retry", **given)
    kinds = [each[1] for each in site.notes()]
    assert kinds == ["FileNotFoundError"] * 3 + ["ValueError"] + ["Retry"] * 3


def test_no_line_of_it_passes_for_one_of_the_log(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.run(work.fail, "lines")
    assert "\nERROR second" not in caplog.text
    assert "ERROR second" in caplog.text


@pytest.mark.parametrize("data", ["AAAA", None, "gASVBAAAAAAAAABLAS4="])
def test_what_is_no_exception_is_told_as_text(data: str | None) -> None:
    said = {**raised.packed(ValueError("bad")), "pickled": data}
    assert repr(raised.unpacked(said)) == "ValueError('bad')"


# How a process may end.


@pytest.mark.parametrize(
    ("func", "args", "how"),
    [
        (work.end, [3], "has ended with status 3"),
        (work.kill, [int(signal.SIGKILL)], "was killed by SIGKILL, perhaps for want of memory"),
        (work.crash, [], "was killed by SIGSEGV"),
    ],
)
def test_a_process_that_dies_fails_its_task_alone(
    site: Site, func: Any, args: list[Any], how: str
) -> None:
    site.add(work.note_and_burn, str(site.path), 0.3)
    site.run(func, *args)
    (failed,) = (each for each in site.ended() if each.outcome == "failed")
    assert type(failed.exception) is WorkerDiedError
    assert how in str(failed.exception)
    assert [each[1] for each in site.notes()] == ["begun", "ended"]
    assert site.run(work.note, str(site.path)).outcome == "succeeded"


def test_a_task_whose_process_has_died_is_tried_again_if_that_was_asked_for(site: Site) -> None:
    assert site.run(work.end_at_first, str(site.path), retries=1, backoff=0.0).attempt == 2
    assert (len(site.notes()), len(site.pids())) == (2, 2)


def test_what_a_task_has_forked_does_not_hide_that_its_process_died(site: Site) -> None:
    site.run(work.start_another_and_die, str(site.path))
    ((_, forked),) = site.notes()
    assert "status 7" in str(site.failure())
    assert is_there(forked)
    os.kill(forked, signal.SIGKILL)


def test_a_process_that_died_while_it_was_idle_costs_no_task(site: Site) -> None:
    site.run(work.note, str(site.path))
    (pid,) = site.pids()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_there(pid))
    assert site.run(work.note, str(site.path)).outcome == "succeeded"
    assert len(site.pids()) == 2


@pytest.mark.parametrize("times", [1, 3])
def test_nor_does_one_that_dies_before_it_has_begun(site: Site, times: int) -> None:
    real, left = worker.Worker.take, [True] * times

    async def take(self: worker.Worker, payload: str, attempt: int) -> bool:
        if left:
            left.pop()
            os.kill(self._process.pid, signal.SIGKILL)
            eventually(lambda: not is_there(self._process.pid))
        return await real(self, payload, attempt)

    with mock.patch.object(worker.Worker, "take", take):
        site.run(work.note, str(site.path))
    if times == 1:
        assert len(site.notes()) == 1
    else:
        assert "3 processes have ended before they had begun" in str(site.failure())


def test_the_time_limit_kills(site: Site) -> None:
    site.run(work.start_another_and_sleep, str(site.path), 60, timeout=0.5)
    ((pid, another),) = site.notes()
    assert str(site.failure()) == "it has taken longer than its timeout of 0.5 s"
    eventually(lambda: not is_there(pid) and not is_there(another))
    assert site.run(work.note, str(site.path)).outcome == "succeeded"


def test_what_keeps_the_lock_is_killed_too(site: Site) -> None:
    site.run(work.keep_the_lock, str(site.path), timeout=0.5)
    ((pid, _),) = site.notes()
    assert isinstance(site.failure(), TimeoutError)
    eventually(lambda: not is_there(pid))


def test_a_drain_waits_and_gives_up_in_the_end(site: Site) -> None:
    site.add(work.note_and_burn, str(site.path), 0.3)
    assert site.drain() == []
    site.add(work.note_and_burn, str(site.path), 60)
    eventually(lambda: len(site.notes()) == 3)
    assert len(site.drain(0.0)) == 1
    pid = site.notes()[-1][0]
    eventually(lambda: not is_there(pid))
    assert site.ended()[-1].outcome == "abandoned"


def test_signals_for_all_processes_of_a_server_end_none(site: Site) -> None:
    assert site.run(work.send_signals_to_all).outcome == "succeeded"
    site.run(work.note, str(site.path))
    assert site.run(work.note, str(site.path)).outcome == "succeeded"
    assert len(site.pids()) == 1


def test_what_has_nothing_to_do_ends(make: Make) -> None:
    site = make(idle=0.2)
    site.run(work.note, str(site.path))
    (pid,) = site.pids()
    eventually(lambda: not Path(f"/proc/{pid}").exists())  # and nobody waits for it any more
    assert not any(each.name == "bgadapters-processes" for each in threading.enumerate())
    assert site.run(work.note, str(site.path)).outcome == "succeeded"


def test_where_no_thread_can_be_had_they_end_with_this_process(site: Site) -> None:
    with mock.patch.object(threading.Thread, "start", side_effect=RuntimeError):
        asyncio.run(_run(site, work.note, str(site.path)))
    assert site.ended()[-1].outcome == "succeeded"


async def _run(site: Site, func: Any, *args: Any) -> None:
    site.add(func, *args)
    await site.runtime.adrain(PATIENCE)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("func", ["keep_the_lock", "start_another_and_sleep"])
def test_they_end_with_the_process_that_has_them(
    tmp_path: Path, signum: signal.Signals, func: str
) -> None:
    path = tmp_path / "notes"
    args = [str(path), 60] if func == "start_another_and_sleep" else [str(path)]
    script = (
        "from bgadapters import BackgroundTasks, drain\n"
        "from tests.engines import process_work as work\n"
        "with BackgroundTasks() as tasks:\n"
        f"    tasks.options(engine='process').add_task(work.{func}, *{args!r})\n"
        "drain()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        eventually(lambda: work.notes(path))
        ((pid, *another),) = work.notes(path)
        others = [each for each in another if isinstance(each, int)]
        assert all(map(is_there, [pid, *others]))
        parent.send_signal(signum)
    finally:
        parent.wait(PATIENCE)
    eventually(lambda: not any(map(is_there, [pid, *others])))


def test_a_forked_child_leaves_the_processes_to_its_parent(site: Site) -> None:
    site.run(work.note, str(site.path))
    pool = site.engine._pool
    assert pool is not None
    held = [pool._lifeline, *(each._connection.fileno() for each in pool._workers)]
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            for each in held:  # or what the parent's have would not end with it
                with pytest.raises(OSError, match="Bad file descriptor"):
                    os.fstat(each)
            site.add(work.note, str(site.path))
            status = len(site.drain())
            site.engine.close()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert site.run(work.note, str(site.path)).outcome == "succeeded"
    first, forked, again = (each[0] for each in site.notes())
    assert (first == again, first != forked) == (True, True)


def test_where_the_kernel_does_not_kill_a_thread_does() -> None:
    script = """
        import os, time
        from unittest import mock
        from bgadapters.engines.process import child

        os.setpgid(0, 0)
        lifeline, end = os.pipe()
        with mock.patch.object(child.fcntl, "fcntl", side_effect=OSError):
            child.end_with(lifeline)
        print("begun", flush=True)
        os.close(end)
        time.sleep(60)
    """
    done = run_script(script)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "begun\n")


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_thousand_tasks_that_end_somehow(make: Make) -> None:
    """Each ends once, whatever becomes of its process."""
    site, seed = make(max_processes=4), random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    for number in range(1000):
        timeout = {"timeout": 1.0} if number % 2 else {"timeout": 2.0}
        site.add(work.end_somehow, str(site.path), number, seed, **timeout)
    assert site.drain(500) == []
    ended = site.ended()
    assert len({each.task_id for each in ended}) == len(ended) == 1000
    assert sorted(each[1] for each in site.notes()) == list(range(1000))
    failed = [each.exception for each in ended if each.outcome == "failed"]
    kinds = Counter(type(each).__name__ for each in failed)
    print(kinds)
    assert kinds.keys() == {"WorkerDiedError", "ValueError", "TimeoutError"}
    pool = site.engine._pool
    assert pool is not None
    assert len(pool._workers) <= 4


# How it is set up.


def test_an_initializer_is_called_once_and_surrounds_tasks(make: Make) -> None:
    site = make(max_processes=1, initializer="tests.engines.process_work:set_up")
    site.run(work.note_scope, str(site.path))
    site.run(work.anote_scope, str(site.path))
    assert [each[1] for each in site.notes()] == ["entered 1", "entered 1"]


def test_it_may_surround_nothing(make: Make) -> None:
    site = make(initializer="tests.engines.process_work:set_up_nothing")
    site.run(work.note_scope, str(site.path))
    assert [each[1] for each in site.notes()] == ["none"]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("tests.engines.process_work:set_up_badly", "LookupError: no settings"),
        ("tests.engines.process_work:gone", "AttributeError"),
        ("os:abort", "was killed by SIGABRT"),
    ],
)
def test_where_it_fails_the_task_does(make: Make, name: str, why: str) -> None:
    site = make(initializer=name)
    site.run(work.note, str(site.path))
    assert type(site.failure()) is EngineUnavailableError
    assert why in str(site.failure())


def test_where_it_takes_too_long_the_task_fails(make: Make) -> None:
    site = make(initializer="tests.engines.process_work:set_up_slowly", timeout=0.5)
    site.run(work.note, str(site.path))
    assert str(site.failure()) == "a process has not begun within 0.5 s"


def test_a_drain_does_not_wait_for_what_does_not_begin(make: Make) -> None:
    site = make(initializer="tests.engines.process_work:set_up_slowly")
    site.add(work.note, str(site.path))
    eventually(lambda: site.engine._pool is not None and site.engine._pool._workers)
    assert len(site.drain(0.0)) == 1


def test_a_python_that_is_not_there(make: Make) -> None:
    site = make(executable="/nowhere/python")
    site.run(work.note, str(site.path))
    assert type(site.failure()) is EngineUnavailableError
    assert "/nowhere/python" in str(site.failure())


def test_a_server_with_python_inside(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/uwsgi")
    site = make()
    assert site.run(work.note, str(site.path)).outcome == "succeeded"
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    with pytest.raises(Exception, match=r"ProcessEngine\(executable='/usr/bin/python3'\)"):
        engine._executable()


def test_under_gevent_it_is_refused() -> None:
    pytest.importorskip("gevent")
    script = """
        from gevent import monkey
        monkey.patch_all()
        from bgadapters import BackgroundTasks
        from tests.engines import process_work as work

        tasks = BackgroundTasks()
        try:
            tasks.options(engine="process").add_task(work.end, 1)
        except TypeError as exc:
            print(exc)
        tasks.release()
    """
    (line,) = lines_of(script)
    assert line.startswith("cannot add tests.engines.process_work.end to an engine of processes")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"max_processes": 0}, "max_processes= accepts a whole number from 1, or None, not 0"),
        ({"max_processes": True}, "not True"),
        ({"max_processes": "2"}, "not '2'"),
        ({"idle": -1}, "idle= accepts a number of seconds from 0, not -1"),
        ({"idle": None}, "not None"),
        ({"timeout": "x"}, "timeout= accepts"),
        ({"initializer": "shop.begin"}, "initializer= accepts 'module:function', not 'shop.begin'"),
        ({"initializer": 1}, "not 1"),
    ],
)
def test_what_is_accepted(given: dict[str, Any], why: str) -> None:
    with pytest.raises(TypeError, match=why):
        ProcessEngine(**given)


def test_the_number_of_processors_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ProcessEngine().places == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert ProcessEngine().places == os.cpu_count()


def test_it_may_be_written_as_settings_of_django_are() -> None:
    backend = "bgadapters.engines.process.ProcessEngine"
    given = {"process": {"BACKEND": backend, "OPTIONS": {"max_processes": 3}}}
    made = parse_settings({"engines": given}).engines["process"]
    assert (type(made), made.places) == (ProcessEngine, 3)
    given["process"]["OPTIONS"] = {"max_processes": 0}
    with pytest.raises(SettingsError, match="max_processes"):
        parse_settings({"engines": given})


# In the process, seen from inside.


def test_what_is_said_of_a_task(tmp_path: Path) -> None:
    path = str(tmp_path / "notes")
    beside = {"id": "a" * 32, "queue": "b" * 32, "added": time.time()}

    def attempt(name: str, *args: Any) -> dict[str, Any]:
        payload = json.dumps({"f": f"{work.__name__}:{name}", "a": args, **beside})
        return child.attempted(FrameworkHooks(), payload, 1)

    assert attempt("note", path, "ran") == {"done": True}
    assert attempt("fail", "ValueError")["raised"]["kinds"][0] == ["builtins", "ValueError"]
    assert work.notes(Path(path)) == [[os.getpid(), "ran"]]


def test_which_hooks_surround_tasks() -> None:
    assert child.hooks_of(None) == FrameworkHooks()
    made = child.hooks_of(["tests.engines.process_work:set_up"])
    assert made.scope is not None
    assert made.ascope is not None
    assert child.hooks_of(["tests.engines.process_work:set_up_nothing"]).scope is None
