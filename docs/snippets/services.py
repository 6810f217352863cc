from bgadapters import add_task

from notifications import send_welcome, write_notification


def sign_up(email: str) -> None:
    add_task(write_notification, email, message="signed up")
    add_task(send_welcome, email)
