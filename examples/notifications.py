"""What the tasks of the examples do. Knows no framework, and nothing of background tasks.

Two environment variables say where things go:

    NOTIFICATIONS_LOG   the file that notifications are appended to
                        (default: notifications.log in the current directory)
    SMTP_ADDRESS        the host:port of the mail server (default: 127.0.0.1:8025,
                        where ``python -m aiosmtpd -n`` runs one that prints its mail)
"""

from __future__ import annotations

import os
import smtplib
from email.message import EmailMessage
from pathlib import Path


def write_notification(email: str, message: str) -> None:
    """Append one line to the log file."""
    path = Path(os.environ.get("NOTIFICATIONS_LOG", "notifications.log"))
    try:
        with path.open("a", encoding="utf-8") as log:
            log.write(f"{email}: {message}\n")
    except OSError as exc:
        raise RuntimeError(f"cannot write to NOTIFICATIONS_LOG={path}: {exc.strerror}") from exc


def send_welcome(email: str) -> None:
    """Send an email, which takes as long as the mail server takes."""
    letter = EmailMessage()
    letter["From"] = "hello@example.org"
    letter["To"] = email
    letter["Subject"] = "Welcome"
    letter.set_content("Good to have you here.")
    host, port = _smtp_address()
    try:
        with smtplib.SMTP(host, port, timeout=30) as smtp:
            smtp.send_message(letter)
    except OSError as exc:  # smtplib's own errors too
        raise RuntimeError(f"cannot send mail through SMTP_ADDRESS={host}:{port}: {exc}") from exc


def _smtp_address() -> tuple[str, int]:
    address = os.environ.get("SMTP_ADDRESS", "127.0.0.1:8025")
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise RuntimeError(f"SMTP_ADDRESS must be host:port, not {address!r}")
    return host, int(port)
