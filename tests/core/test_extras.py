"""What is said where the framework of a shim is not there."""

from __future__ import annotations

import pytest

from bgadapters.adapters import explain_missing


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("flask", "No module named 'flask'. Install it."),
        ("django", "no"),
        ("flask_cors", "no"),
        ("flask.json", "no"),  # it is there, but another than is expected
        (None, "no"),
    ],
)
def test_an_error_about_what_is_needed_says_how_to_get_it(missing: str | None, said: str) -> None:
    error = ModuleNotFoundError("no", name=missing)
    explain_missing(error, "flask", "Install it.")
    assert str(error) == said


def test_of_a_package_the_module_is_needed() -> None:
    error = ModuleNotFoundError("no", name="django.tasks")
    explain_missing(error, "django.tasks", "Install it.")
    assert str(error) == "No module named 'django.tasks'. Install it."
