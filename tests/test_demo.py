"""The examples and their demonstration: it passes on real servers, and it can fail."""

from __future__ import annotations

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from examples.demo.durable import PEOPLE, Sightings
from examples.demo.durable import problems as problems_of_sign_ups
from examples.demo.durable import report as report_of_sign_ups
from examples.demo.engines import APPS, WAYS, Seen
from examples.demo.engines import problems as problems_of_an_order
from examples.demo.engines import report as report_of_an_order
from examples.demo.plan import HOSTS, REQUESTS, WELCOME, Host, logged
from examples.demo.record import Exchange, Record
from examples.demo.verdict import problems
from examples.notifications import send_welcome, write_notification

_ROOT = Path(__file__).parents[1]
_DJANGO, _FLASK = "examples/django_app.py", "examples/flask_app.py"


def _start(
    *arguments: str, root: Path = _ROOT, module: str = "examples.demo", **environ: str
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=root,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _run(*arguments: str, root: Path = _ROOT) -> tuple[int, str]:
    with _start(*arguments, root=root) as demo:
        output, _ = demo.communicate(timeout=150)
        return demo.returncode, output


@pytest.mark.host
@pytest.mark.slow
def test_the_demonstration_passes_on_every_host() -> None:
    code, output = _run()
    assert code == 0, output
    for host in HOSTS.values():
        assert f"\n{host.name}: {host.command}\n" in output
    assert output.count("\n  POST /") == len(HOSTS) * len(REQUESTS), output
    assert output.splitlines()[-1].startswith("PASSED: 15 tasks "), output
    assert len(output.splitlines()) <= 60
    shown = _shown_in_the_readme()
    assert shown[-1] == output.splitlines()[-1]
    _assert_part_of(shown, output)


def _shown_in_the_readme() -> list[str]:
    """The lines that README shows of the output, without those that stand for others."""
    readme = (_ROOT / "README.md").read_text()
    _, found, rest = readme.partition("```console\n$ make demo\n")
    assert found
    return [line for line in rest.partition("```")[0].splitlines() if line != "[...]"]


def _assert_part_of(shown: list[str], output: str) -> None:
    """Each line is there, in this order, whatever its times."""
    printed = iter([_without_times(line) for line in output.splitlines()])
    for line in shown:
        assert _without_times(line) in printed, f"README shows {line!r}"


def _without_times(line: str) -> str:
    line = re.sub(r"\d+", "0", line)
    return " ".join(re.sub("#+", "#", line).split())


def test_what_the_readme_shows_of_the_demonstration_can_be_wrong() -> None:
    """Other times are as good; another line, or another order, is none of the output."""
    shown = _shown_in_the_readme()
    _assert_part_of(shown, "\n".join(["more", *shown, "more"]).replace("1021", "999"))
    for other in ([*shown, "another"], [shown[1], shown[0]]):
        with pytest.raises(AssertionError, match="README shows"):
            _assert_part_of(other, "\n".join(shown))


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "replacement", "complaint"),
    [
        pytest.param(
            _FLASK,
            "    background_tasks.add_task(send_welcome, email)\n",
            "    background_tasks.add_task(send_welcome, email)\n" * 2,
            f"{WELCOME} for grace@example.org ran 2 times",
            id="twice",
        ),
        pytest.param(
            _FLASK,
            "    background_tasks.add_task(send_welcome, email)\n",
            "",
            f"{WELCOME} for grace@example.org did not run",
            id="not at all",
        ),
        pytest.param(
            _DJANGO,
            '    return JsonResponse({"message": "Signed up"})\n',
            "    request.background_tasks.release()\n"
            "    log = os.environ['NOTIFICATIONS_LOG']\n"
            "    while not os.path.exists(log) or 'grace' not in open(log).read():\n"
            "        pass\n"
            '    return JsonResponse({"message": "Signed up"})\n',
            "before the response to /sign-up/grace@example.org was complete, "
            "'write_notification: signed up'",
            id="before the response",
        ),
    ],
)
def test_a_task_that_runs_wrongly_makes_the_demonstration_fail(
    tmp_path: Path, file: str, line: str, replacement: str, complaint: str
) -> None:
    shutil.copytree(_ROOT / "examples", tmp_path / "examples")
    source = (tmp_path / file).read_text()
    assert line in source
    (tmp_path / file).write_text(source.replace(line, replacement))
    host = "django" if file == _DJANGO else "flask"
    code, output = _run(host, "--deadline", "5", root=tmp_path)
    assert code == 1, output
    assert f"WRONG: {complaint}" in output


@pytest.mark.host
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="asks /proc for processes")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demonstration_leaves_nothing_running(
    tmp_path: Path, stop: signal.Signals
) -> None:
    with _start("flask", TMPDIR=str(tmp_path), DEMO_TEST=str(tmp_path)) as demo:
        assert demo.stdout is not None
        while "Flask on gunicorn" not in demo.stdout.readline():
            assert demo.poll() is None
        assert len(_processes_of(tmp_path)) > 1
        demo.send_signal(stop)
        output = demo.stdout.read()
    assert demo.returncode == 128 + stop, output
    assert output == "\nInterrupted; everything was stopped.\n"
    assert not _processes_of(tmp_path)
    assert not list(tmp_path.iterdir())


def _processes_of(tmp_path: Path) -> list[str]:
    """The processes that were started with this directory in their environment."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"DEMO_TEST={tmp_path}\0".encode() in environ.read_bytes():
                found.append(environ.parent.name)
        except OSError:  # it has ended, or is not ours
            continue
    return found


def _good_record() -> Record:
    record = Record()
    for second, request in enumerate(REQUESTS):
        exchange = Exchange(request, complete=0.0, arrived=float(second), status=200)
        record.exchanges.append(exchange)
    for request in reversed(REQUESTS):  # the mail is the last to end
        for task in request.tasks:
            for kind in ("started", "succeeded"):
                record.note(kind, request.email, task, "worker", "", at=10.0)
        record.log += logged(request)
    record.notes.sort(key=lambda note: (note.email.startswith("grace"), note.task == WELCOME))
    record.mailbox = ["grace@example.org: Welcome"]
    return record


def test_a_record_of_everything_as_promised_has_no_problem() -> None:
    record = _good_record()
    assert problems(record) == []
    assert record.all_ended.is_set()


def _change(record: Record, kind: str, task: str, /, **fields: Any) -> None:
    """Change what was noted of the first such task."""
    for index, note in enumerate(record.notes):
        if (note.kind, note.task) == (kind, task):
            record.notes[index] = replace(note, **fields)
            return
    raise AssertionError(f"{task} has not {kind}")


def _swap_tasks(record: Record) -> None:
    first = next(i for i, n in enumerate(record.notes) if n.task.endswith("signed up"))
    notes = record.notes
    notes[first : first + 4] = notes[first + 2 : first + 4] + notes[first : first + 2]


def _overlap_tasks(record: Record) -> None:
    first = next(i for i, n in enumerate(record.notes) if n.task.endswith("signed up"))
    notes = record.notes
    notes[first + 1], notes[first + 2] = notes[first + 2], notes[first + 1]


def _move_to_end(record: Record) -> None:
    """Have a task of another response run after the mail."""
    record.notes += [record.notes.pop(0), record.notes.pop(0)]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda r: r.problems.append("no answer"), "no answer"),
        (lambda r: setattr(r.exchanges[1], "status", 500), "was answered with 500"),
        (lambda r: r.notes.clear(), "did not run"),
        (lambda r: r.notes.pop(), "started and did not finish"),
        (lambda r: r.notes.extend(r.notes[-2:]), "ran 2 times"),
        (lambda r: _change(r, "succeeded", WELCOME, kind="failed"), f"{WELCOME} for grace"),
        (lambda r: _change(r, "started", WELCOME, task="other"), "nobody asked for it"),
        (_swap_tasks, "ran out of order"),
        (_overlap_tasks, "ran out of order"),
        (lambda r: _change(r, "started", WELCOME, answered=False), "before the response"),
        (lambda r: _change(r, "succeeded", WELCOME, answered=False), "was complete only after"),
        (lambda r: _change(r, "succeeded", WELCOME, next_answered=False), "the request after"),
        (lambda r: r.notes.append(r.notes.pop(0)), "ran out of order"),
        (_move_to_end, f"waited for {WELCOME} of another response"),
        (lambda r: r.log.pop(), "the log file should have"),
        (lambda r: r.log.append(r.log[0]), "the log file should have"),
        (lambda r: r.log.reverse(), "the log file should have"),
        (lambda r: r.log.append("eve@example.org: hello"), "nobody asked for"),
        (lambda r: r.mailbox.clear(), "the mailbox should have"),
        (lambda r: r.mailbox.append(r.mailbox[0]), "the mailbox should have"),
    ],
)
def test_every_departure_from_the_promises_is_a_problem(
    spoil: Callable[[Record], object], complaint: str
) -> None:
    record = _good_record()
    spoil(record)
    found = problems(record)
    assert any(complaint in problem for problem in found), found


@pytest.mark.parametrize(
    ("complete", "arrived", "answered"),
    [
        pytest.param(None, None, False, id="no response yet"),
        pytest.param(1.0, 19.9, True, id="a response before"),
        pytest.param(1.0, 20.1, False, id="a response since, before the note was taken"),
        pytest.param(1.0, None, True, id="a response, on a system that cannot say when it came"),
    ],
)
def test_a_note_says_whether_the_task_came_after_its_response(
    complete: float | None, arrived: float | None, answered: bool
) -> None:
    record = Record()
    record.exchanges.append(Exchange(REQUESTS[0], complete=complete, arrived=arrived))
    record.note("started", REQUESTS[0].email, REQUESTS[0].tasks[0], "worker", "", at=20.0)
    assert record.notes[0].answered is answered


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_the_demonstration_runs_the_command_that_the_example_gives(host: Host) -> None:
    command = host.command
    module = command.split()[-1].partition(":")[0]
    source = (_ROOT / f"{module.replace('.', '/')}.py").read_text()
    docstring = ast.get_docstring(ast.parse(source)) or ""
    assert f"\n    {command}\n" in docstring


def test_a_log_file_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTIFICATIONS_LOG", str(tmp_path / "nowhere" / "log"))
    with pytest.raises(RuntimeError, match=r"NOTIFICATIONS_LOG=.*/nowhere/log: No such file"):
        write_notification("ada@example.org", "hello")


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("127.0.0.1:1", "cannot send mail through SMTP_ADDRESS=127.0.0.1:1: .*refused"),
        ("localhost", "SMTP_ADDRESS must be host:port, not 'localhost'"),
        ("localhost:smtp", "SMTP_ADDRESS must be host:port, not 'localhost:smtp'"),
        (":25", "SMTP_ADDRESS must be host:port, not ':25'"),
    ],
)
def test_a_mail_server_that_cannot_be_reached_is_named(
    monkeypatch: pytest.MonkeyPatch, address: str, complaint: str
) -> None:
    monkeypatch.setenv("SMTP_ADDRESS", address)
    with pytest.raises(RuntimeError, match=complaint):
        send_welcome("ada@example.org")


@pytest.mark.host
@pytest.mark.slow
def test_all_who_signed_up_have_their_mail_though_the_server_was_killed() -> None:
    with _start(module="examples.demo.durable") as demo:
        output, _ = demo.communicate(timeout=100)
    assert demo.returncode == 0, output
    lines = output.splitlines()
    assert [line.partition("@")[0] for line in sorted(lines) if line.startswith("person")] == [
        f"person{number:02}" for number in range(1, 51)
    ]
    kill, start = (
        next(i for i, line in enumerate(lines) if line.startswith(what))
        for what in ("kill -9 at ", "started again at ")
    )
    assert 20 < kill < start < 40, output
    assert lines[-1].startswith("PASSED: 50 signed up, 50 have their welcome mail, "), output


def _good_sightings() -> Sightings:
    seen = Sightings()
    seen.killed, seen.restarted = 25.5, 26.5
    for number, person in enumerate(PEOPLE):
        seen.answered[person] = float(number + 1)
        seen.mails[person] = [number + 5.0]
    return seen


def test_sign_ups_that_all_have_their_mail_are_no_problem() -> None:
    seen = _good_sightings()
    seen.mails[PEOPLE[24]].append(30.0)
    seen.asked_again.add(PEOPLE[24])
    assert problems_of_sign_ups(seen) == []
    assert seen.twice == [PEOPLE[24]]
    lines = report_of_sign_ups(seen).splitlines()
    assert lines[25].startswith(PEOPLE[24])
    assert lines[25].endswith("  asked again, twice")
    assert lines[26].startswith("kill -9 at 25.50 s ---")
    assert lines[28].startswith("started again at 26.50 s ---")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda seen: seen.answered.pop(PEOPLE[3]), f"{PEOPLE[3]} was not answered"),
        (lambda seen: seen.mails.pop(PEOPLE[3]), f"{PEOPLE[3]} has no mail"),
        (lambda seen: setattr(seen, "killed", 0.5), "nothing was left at the kill"),
    ],
)
def test_every_mail_that_is_not_there_is_a_problem(
    spoil: Callable[[Sightings], object], complaint: str
) -> None:
    seen = _good_sightings()
    spoil(seen)
    assert any(complaint in problem for problem in problems_of_sign_ups(seen))
    assert report_of_sign_ups(seen)


@pytest.mark.host
@pytest.mark.slow
def test_the_same_call_sites_work_on_every_engine() -> None:
    with _start(module="examples.demo.engines") as demo:
        output, _ = demo.communicate(timeout=300)
    assert demo.returncode == 0, output
    left_out = output.count("SKIPPED: no broker answers")
    orders = (len(WAYS) - left_out) * len(APPS)
    assert output.splitlines()[-1].startswith(f"PASSED: {orders} orders, each with its mail"), (
        output
    )


_HERE = [
    (0.01, 1, "view begins"),
    (0.1, 1, "send_mail begins"),
    (0.3, 1, "send_mail ends"),
    (0.3, 1, "render_thumbnail begins"),
    (0.4, 1, "render_thumbnail ends"),
]
_THERE = [_HERE[0], *((at, 2, what) for at, _, what in _HERE[1:])]


def _order(notes: Any = _THERE, **fields: Any) -> Seen:
    return Seen(0.05, 200, notes, 0.3, has_thumbnail=True, log=[])._replace(**fields)


def test_an_order_that_is_done_where_it_belongs_is_no_problem() -> None:
    assert problems_of_an_order(WAYS["local"], _order(_HERE)) == []
    assert problems_of_an_order(WAYS["celery"], _order()) == []
    lines = report_of_an_order("flask", _order()).splitlines()
    assert lines[1].split() == ["10", "ms", "view", "begins", "process", "1"]
    assert lines[2].split() == ["50", "ms", "the", "client", "has", "the", "answer,", "200"]
    assert lines[-1].split() == ["400", "ms", "render_thumbnail", "ends", "process", "2"]


@pytest.mark.parametrize(
    ("way", "seen", "complaint"),
    [
        ("huey", _order(status=500), "the answer was 500"),
        ("huey", _order(mail=None), "there is no mail"),
        ("huey", _order(has_thumbnail=False), "there is no thumbnail"),
        ("huey", _order(_THERE[:1]), "send_mail begins 0 times"),
        ("huey", _order([*_THERE, _THERE[1]]), "send_mail begins 2 times"),
        ("huey", _order(_HERE), "tasks of 'huey' ran in the processes {1}, the view in {1}"),
        ("local", _order(), "tasks of 'local' ran in the processes {2}, the view in {1}"),
        ("huey", _order(answered=0.35), "the answer came after the task"),
    ],
)
def test_every_order_that_is_not_as_promised_is_a_problem(
    way: str, seen: Seen, complaint: str
) -> None:
    assert complaint in problems_of_an_order(WAYS[way], seen)
