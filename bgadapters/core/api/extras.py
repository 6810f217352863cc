"""What to install for a shim whose framework is not there."""

from __future__ import annotations


def explain_missing(missing: ModuleNotFoundError, needed: str, way: str) -> None:
    """Say in an error how to get a module, if that is the one which is missing.

    Args:
        missing: the error. Its type and its ``name`` stay as they are.
        needed: the name of the module.
        way: what to do, as a sentence.
    """
    if missing.name == needed:
        missing.msg = f"No module named {missing.name!r}. {way}"
