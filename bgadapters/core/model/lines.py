"""Texts for one line of a log or of an error: names and reprs, which belong to the application.

They may raise anything, and may hold what would forge further lines.
"""

from __future__ import annotations

from collections.abc import Callable

CONTROL = {
    **{code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))},
    **{code: f"\\u{code:04x}" for code in (0x2028, 0x2029)},
}
"""What is written in the place of control characters."""


def text(make: Callable[[], object], otherwise: str) -> str:
    """Return what ``make`` returns as a string for one line of a log, ``otherwise`` if it raises.

    Control characters are escaped, so that a name or a message cannot forge lines.
    """
    try:
        return escaped(str(make()))
    except BaseException:
        return otherwise


def escaped(text: str) -> str:
    """Return a text for one line of output, its control characters escaped."""
    if type(text) is str and text.isprintable():  # as nearly always, and far cheaper
        return text
    return str.translate(text, CONTROL)  # it may be of a type of the application's own


def name_of_type(value: object) -> str:
    """Return ``module.qualname`` of the type of a value, which its own attributes cannot change."""
    kind = type(value)
    try:
        parts = [type.__getattribute__(kind, each) for each in ("__module__", "__qualname__")]
        return str.translate(".".join(map(str.__str__, parts)), CONTROL)
    except BaseException:
        return "an object whose type has no name"
