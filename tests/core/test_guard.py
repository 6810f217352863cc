"""What the application says cannot forge lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from bgadapters import BackgroundTasks
from bgadapters.core.model import guard

FORGED = "2030-01-01 CRITICAL root the disk is gone"


@pytest.fixture
def written() -> Iterator[list[str]]:
    """The lines that a formatter as any application's writes."""
    lines: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.extend(self.format(record).split("\n"))

    handler = Handler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    guard.logger.addHandler(handler)
    yield lines
    guard.logger.removeHandler(handler)


def raised(exception: BaseException) -> BaseException:
    try:
        raise exception
    except BaseException as exc:
        return exc


def noted(exception: BaseException, note: str) -> BaseException:
    exception.add_note(note)
    return exception


def caused(exception: BaseException, cause: BaseException) -> BaseException:
    exception.__cause__ = cause
    return exception


class BrokenError(Exception):
    def __str__(self) -> str:
        raise SystemExit


EXCEPTIONS = {
    "message": ValueError(f"first\n{FORGED}"),
    "return": ValueError(f"first\r{FORGED}"),
    "other line ends": ValueError(f"first\x85{FORGED}\u2028{FORGED}\x0b{FORGED}"),
    "cause": caused(KeyError(), raised(ValueError(f"first\n{FORGED}"))),
    "in a circle": caused(other := ValueError(f"first\n{FORGED}"), caused(KeyError(), other)),
    "note": noted(ValueError("first"), f"second\n{FORGED}"),
    "notes": noted(noted(ValueError("first\nsecond"), " third"), FORGED),
    "group": ExceptionGroup("several", [ValueError(f"first\n{FORGED}"), KeyError()]),
    "beside what cannot be shown": caused(BrokenError(), ValueError(f"first\n{FORGED}")),
}


@pytest.mark.parametrize("kind", EXCEPTIONS)
def test_the_message_of_an_exception_forges_no_line(kind: str, written: list[str]) -> None:
    guard.log(logging.ERROR, "%s failed", "it", exc_info=raised(EXCEPTIONS[kind]))
    lines = [again for line in written for again in line.splitlines()]
    assert lines[0] == "ERROR bgadapters it failed"
    assert any(FORGED in line for line in lines)
    assert not any(line.startswith(FORGED) for line in lines)


def test_a_terminal_is_sent_no_commands(written: list[str]) -> None:
    guard.log(logging.ERROR, "it failed", exc_info=raised(ValueError("clear\x1b[2J")))
    assert written[-1] == r"ValueError: clear\x1b[2J"


def test_other_tracebacks_are_left_to_the_formatter() -> None:
    seen: list[tuple[bool, str | None]] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append((record.exc_info is not None, record.exc_text))

    handler = Handler()
    guard.logger.addHandler(handler)
    guard.log(logging.ERROR, "it failed", exc_info=raised(ValueError("plain")))
    guard.log(logging.ERROR, "it failed", exc_info=raised(BrokenError()))
    guard.logger.removeHandler(handler)
    assert seen == [(True, None), (True, None)]


def test_what_is_not_to_be_logged_is_not_formatted(
    written: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard.logger, "disabled", True)
    guard.log(logging.ERROR, "it failed", exc_info=raised(ValueError("first\nsecond")))
    assert written == []


def test_where_the_log_itself_raises_standard_error_is_not_forged_either(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise SystemExit(f"no log\n{FORGED}")

    broken = Broken()
    guard.logger.addHandler(broken)
    try:
        guard.log(logging.ERROR, "it failed", exc_info=raised(ValueError(f"why\n{FORGED}")))
    finally:
        guard.logger.removeHandler(broken)
    lines = capsys.readouterr().err.splitlines()
    assert lines.count(f"    {FORGED}") == 2
    assert FORGED not in lines


def test_a_task_that_fails_and_one_that_is_discarded(
    queue: BackgroundTasks, written: list[str]
) -> None:
    def fail() -> None:
        raise ValueError(f"first\n{FORGED}")

    queue.options(name=f"mail\n{FORGED}").add_task(print)
    queue.discard(KeyError(f"first\n{FORGED}"))
    queue.options(name=f"mail\n{FORGED}").add_task(fail)
    queue.release()
    assert queue.runtime.drain() == []
    heads = [line for line in written if line.startswith(("WARNING", "ERROR"))]
    assert len(heads) == 2
    assert FORGED not in written
