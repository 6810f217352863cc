"""Options of a task: what is accepted and refused at the call; the last one counts."""

from __future__ import annotations

from typing import Any

import pytest

from bgadapters import BackgroundTasks
from bgadapters.adapters import Options
from bgadapters.core.model.options import DEFAULT_OPTIONS, checked_options


def function() -> None: ...


def test_options_add_up_and_the_last_word_counts(queue: BackgroundTasks) -> None:
    options = checked_options(DEFAULT_OPTIONS, {"always": True, "name": "one"})
    assert options == Options(always=True, name="one")
    assert checked_options(options, {"name": "two"}) == Options(always=True, name="two")
    assert checked_options(options, {"name": None}) == Options(always=True, name=None)

    queue.options(name="one").options(always=True).options(name="two").add_task(function)
    assert [task.options for task in queue.batch.left()] == [Options(always=True, name="two")]
    queue.close(ValueError())


def test_an_unknown_option_is_refused_with_the_list_of_those_accepted(
    queue: BackgroundTasks,
) -> None:
    with pytest.raises(TypeError) as refusal:
        queue.options(retries=3)  # type: ignore[call-arg]
    assert str(refusal.value) == (
        "options() got an unknown option 'retries'; it accepts always= (True or False), "
        "name= (a string or None), on_commit= (True or False)"
    )
    with pytest.raises(TypeError, match="'timeout'"):
        queue.options(always=True).options(timeout=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("option", "value", "accepted"),
    [
        ("always", 1, "True or False"),
        ("always", None, "True or False"),
        ("always", "yes", "True or False"),
        ("name", 1, "a string or None"),
        ("name", b"bytes", "a string or None"),
    ],
)
def test_an_option_of_the_wrong_type_is_refused(
    option: str, value: Any, accepted: str, queue: BackgroundTasks
) -> None:
    with pytest.raises(TypeError) as refusal:
        queue.options(**{option: value})
    assert str(refusal.value) == f"options({option}=...) accepts {accepted}, not {value!r}"


def test_options_take_no_names_from_the_tasks_own_keyword_arguments(
    queue: BackgroundTasks,
) -> None:
    def task(**kwargs: Any) -> None: ...

    queue.options(always=False, name="mine").add_task(task, name="theirs", always=True, options=1)
    (added,) = queue.batch.left()
    assert added.kwargs == {"name": "theirs", "always": True, "options": 1}
    assert added.options == Options(always=False, name="mine")
    queue.close(ValueError())
