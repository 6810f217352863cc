"""What the demonstration does: which hosts it visits, what it asks of each, what must follow."""

from __future__ import annotations

from typing import NamedTuple


class Host(NamedTuple):
    """A framework on a server."""

    name: str
    command: str  # the one in the application's docstring
    options: str  # what a machine that others use too asks for: any free port, no files


class Request(NamedTuple):
    """A request and the tasks it must lead to, in their order."""

    target: str
    email: str
    tasks: tuple[str, ...]


_GUNICORN = "--bind 127.0.0.1:0 --no-control-socket"

HOSTS = {
    "fastapi": Host("FastAPI on uvicorn", "uvicorn examples.fastapi_app:app", "--port 0"),
    "django": Host(
        "Django on gunicorn", "gunicorn --threads 4 examples.django_app:application", _GUNICORN
    ),
    "flask": Host("Flask on gunicorn", "gunicorn --threads 4 examples.flask_app:app", _GUNICORN),
}

NOTIFY = "write_notification: "
WELCOME = "send_welcome"

REQUESTS = (
    Request(
        "/send-notification/ada@example.org", "ada@example.org", (f"{NOTIFY}some notification",)
    ),
    Request(
        "/sign-up/grace@example.org",
        "grace@example.org",
        (f"{NOTIFY}signed up", f"{NOTIFY}welcome is on its way", WELCOME),
    ),
    Request(
        "/send-notification/alan@example.org", "alan@example.org", (f"{NOTIFY}some notification",)
    ),
)


def logged(request: Request) -> list[str]:
    """Return the lines of the log file that a request must lead to."""
    return [
        f"{request.email}: {task.removeprefix(NOTIFY)}"
        for task in request.tasks
        if task.startswith(NOTIFY)
    ]
