"""What a shim does for ``bgadapters.check``."""

from __future__ import annotations

from bgadapters.core.api.tasks import BackgroundTasks


def answer_check(
    queue: BackgroundTasks, header: str | None, place: str, below: object = None
) -> None:
    """A queue was opened: add a checker's tasks to it if its request asks for them.

    Where the process has not opted in, this costs a comparison with None.

    Args:
        queue: the queue.
        header: the request's header ``Bgadapters-Check``; None where it has none.
        place: who opened the queue, as the checker calls it.
        below: the application that will make the response, where that is known. Default: None.
    """
    if queue.runtime.check_token is not None:
        from bgadapters.core.api.probe import visit

        visit(queue, header, place, below)
