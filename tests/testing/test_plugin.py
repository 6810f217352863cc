"""The pytest plugin, in runs of pytest of its own."""

from __future__ import annotations

import re

import pytest

from bgadapters.testing import Recorder, plugin
from tests.testing.running import install, judged, run_suite

pytestmark = pytest.mark.slow  # each starts pytest processes of its own

OURS = re.compile(r"bgadapters/(core|testing)/")  # a frame of this package
ALONE = ("-p", "bgadapters.testing.plugin")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in this process has no plugin but ours."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_without_a_framework_at_random_in_two_processes(pytester: pytest.Pytester) -> None:
    ran = run_suite(pytester, "plain", "-n", "2", plugins="randomly xdist")
    text = {name.removeprefix("test_"): result.text for name, result in ran.items()}
    of_the_task = text["fails_with_the_traceback_of_the_task"]
    assert "raise KeyError(what)" in of_the_task
    assert "raise ValueError(what) from exc" in of_the_task
    assert "Raised by the background task test_plain.fail" in of_the_task
    several = text["fails_with_several"]
    assert "2 problems with background tasks" in several
    assert "ValueError: first" in several
    assert "ValueError: second" in several
    both = text["fails_by_itself_and_tells_of_the_task"]
    assert 'assert ran == ["never"]' in both
    assert "In the same test: ValueError: of a task" in both
    assert "said in a task" in text["fails_by_what_pytest_raises"]
    assert "SystemExit: 3" in text["fails_by_what_would_end_the_run"]
    stopped = text["fails_by_what_would_end_a_generator"]
    assert "RuntimeError: the task raised StopIteration\n" in stopped
    assert "next(iter([]))" in stopped
    assert "said in a task" in text["skips_by_a_task"]
    assert "ValueError: in a fixture" in text["errors_in_the_setup"]
    assert "ValueError: in a tear-down" in text["errors_in_the_teardown"]
    by_itself = text["errors_in_the_teardown_by_itself"]
    assert "LookupError: of the tear-down" in by_itself
    assert "In the same test: ValueError: beside the tear-down" in by_itself
    for name, what in {
        "errors_though_it_skips": "of a skipped test",
        "errors_beside_its_own_failure": "of a test case",
        "errors_beside_what_it_skips": "of a skipped test case",
        "errors_beside_an_expected_failure": "not the expected one",
    }.items():
        assert f"ValueError: {what}\n" in text[name]
    assert text["errors_for_a_queue_that_nobody_releases"].endswith(
        "\n1 background task(s) never ran, since nothing closed their response: test_plain.note. "
        "Read a streamed response to its end or close it; use BackgroundTasks() in a 'with' "
        "block, or release it"
    )
    assert "their mode is 'off'" in text["errors_where_the_fixture_has_no_meaning"]
    groups = {"fails_with_several"}  # pytest 8.3 shows every frame of these
    assert {name for name, shown in text.items() if OURS.search(shown)} <= groups


def test_what_still_runs_fails_the_test_that_left_it(pytester: pytest.Pytester) -> None:
    ran = run_suite(pytester, "leaks", ini="background_tasks_timeout = 0.2")
    assert ran["test_fails_and_names_what_it_leaves"].text == (
        "2 background task(s) had not finished 0.2 s after the test, and were abandoned: "
        "test_leaks.stay, builtins.print"
    )


def test_in_this_process(pytester: pytest.Pytester, alone: None) -> None:
    """The same once more, where coverage sees it."""
    install(pytester, "plain")
    pytester.runpytest_inprocess(*ALONE)
    judged(pytester)


def test_ctrl_c_while_tasks_are_waited_for_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the tear-down has failed already, so that nothing else would be raised."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    watch = plugin._Watch(Recorder(), 0)
    monkeypatch.setattr(watch.recorder, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        watch.finish(KeyError())


@pytest.mark.parametrize(
    ("ini", "said"),
    [
        ("background_tasks_mode = all", "*background_tasks_mode accepts run, capture, off; *"),
        ("background_tasks_timeout = x", "*accepts a number of seconds from 0, not 'x'*"),
        ("background_tasks_timeout = -1", "*accepts a number of seconds from 0, not '-1'*"),
    ],
)
def test_settings_that_are_not_accepted(
    pytester: pytest.Pytester, alone: None, ini: str, said: str
) -> None:
    pytester.makeini(f"[pytest]\n{ini}")
    result = pytester.runpytest_inprocess(*ALONE)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("'all'", "the mark background_tasks accepts run, capture, off; not 'all'"),
        ("retries=1", "the mark background_tasks accepts mode, strict*real_time; not retries"),
        ("'run', 'off'", "the mark background_tasks accepts mode, *; not 'off'"),
    ],
)
def test_marks_that_are_not_accepted(
    pytester: pytest.Pytester, alone: None, mark: str, said: str
) -> None:
    """An error of the test: of one of the collection xdist would not say why it is."""
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.background_tasks({mark})
        def test_it(): ...

        def test_another(): ...
        """
    )
    result = pytester.runpytest_inprocess(*ALONE)
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", said])
    result.stdout.no_fnmatch_line("All traceback entries are hidden*")


def test_the_settings_of_a_project(pytester: pytest.Pytester, alone: None) -> None:
    pytester.makeini(
        "[pytest]\nbackground_tasks_mode = capture\nbackground_tasks_strict_portable = true"
    )
    pytester.makepyfile(
        """
        import pytest
        from bgadapters import BackgroundTasks, NotPortableError

        def test_it(background_tasks):
            with BackgroundTasks() as tasks:
                with pytest.raises(NotPortableError):
                    tasks.add_task(lambda: None)
                tasks.add_task(print, 1)
            assert background_tasks.assert_added_once(print, 1).outcome == "pending"

        @pytest.mark.background_tasks("off", ignore_failures=True)
        class TestClosestMark:
            @pytest.mark.background_tasks("run", strict_portable=False)
            def test_it(self, background_tasks):
                with BackgroundTasks() as tasks:
                    tasks.add_task(divmod, 1, 0)
                    tasks.add_task(lambda: None)
                outcomes = [task.outcome for task in background_tasks.tasks]
                assert outcomes == ["failed", "succeeded"]
        """
    )
    result = pytester.runpytest_inprocess(*ALONE)
    result.assert_outcomes(passed=2)
