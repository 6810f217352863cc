"""What the error of a task says where it has used an uploaded file, which is closed by then."""

from __future__ import annotations

import re

_NOTE = (
    "This was raised in a background task. Django closes uploaded files, and removes temporary "
    "ones, when the response is complete, before tasks run. If this is one of them, read it in "
    "the view, or save it there, and hand the task its content or its place."
)
_CLOSED = re.compile(r"closed file|cannot be reopened")
_TEMPORARY = re.compile(r"\.upload(\.[^/]*)?$")  # as TemporaryUploadedFile names it


def explain(exception: BaseException) -> None:
    """Add a note to an exception that tells of a file which is closed or gone."""
    if isinstance(exception, ValueError):
        is_meant = _CLOSED.search(str(exception)) is not None
    elif isinstance(exception, FileNotFoundError):
        is_meant = _TEMPORARY.search(str(exception.filename)) is not None
    else:
        return
    if is_meant:
        exception.add_note(_NOTE)
