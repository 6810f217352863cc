from bgadapters import enqueue

from notifications import write_notification


def sign_up(email: str) -> None:
    """Called by views, by a command that imports accounts, and in a shell."""
    enqueue(write_notification, email, message="signed up")
