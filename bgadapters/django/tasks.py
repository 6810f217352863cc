"""The backend for Django's own tasks framework, which Django has from 6.0 on.

::

    TASKS = {"default": {"BACKEND": "bgadapters.django.tasks.PostResponseBackend"}}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bgadapters.django.tasks_native import PostResponseBackend

__all__ = ["PostResponseBackend"]


def __getattr__(name: str) -> Any:
    """Import it when it is asked for.

    Queues of tasks look for a module ``tasks`` in each application, and import it: that has to
    work with each version of Django.
    """
    if name == "PostResponseBackend":
        from bgadapters.django.tasks_native import PostResponseBackend

        return PostResponseBackend
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
