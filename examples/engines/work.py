"""What the tasks do: send a mail, and render a thumbnail. Knows no framework and no engine.

Two environment variables say where things go:

    ORDERS_DIR     the directory of the thumbnails (default: the current one)
    TIMELINE       the file that notes when things happen, and in which process (default: none)
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from pathlib import Path

from bgadapters import task_options
from examples.notifications import send_welcome

WIDTH, HEIGHT, SCALE = 480, 360, 4


@task_options()
def send_mail(email: str) -> None:
    """Send the confirmation of an order."""
    note("send_mail", "begins")
    send_welcome(email)
    note("send_mail", "ends")


@task_options()
def render_thumbnail(order: str) -> None:
    """Write a small picture of what was ordered. It computes in Python, and holds its lock."""
    note("render_thumbnail", "begins")
    path = Path(os.environ.get("ORDERS_DIR", ".")) / f"{order}.png"
    path.write_bytes(_png(_scaled_down()))
    note("render_thumbnail", "ends")


def note(what: str, moment: str) -> None:
    """Note for the demonstration that something begins or ends here."""
    path = os.environ.get("TIMELINE")
    if path:
        line = json.dumps({"at": time.time(), "process": os.getpid(), "what": f"{what} {moment}"})
        with Path(path).open("a", encoding="utf-8") as timeline:
            timeline.write(f"{line}\n")


def _picture(x: int, y: int) -> tuple[int, int, int]:
    """A pixel of what a camera would have taken."""
    return (x * 255 // WIDTH, y * 255 // HEIGHT, (x * y) % 256)


def _scaled_down() -> list[list[tuple[int, ...]]]:
    """Each pixel is the mean of those it stands for."""
    rows = []
    for top in range(0, HEIGHT, SCALE):
        row = []
        for left in range(0, WIDTH, SCALE):
            square = [
                _picture(x, y) for y in range(top, top + SCALE) for x in range(left, left + SCALE)
            ]
            row.append(tuple(sum(channel) // len(square) for channel in zip(*square, strict=True)))
        rows.append(row)
    return rows


def _png(rows: list[list[tuple[int, ...]]]) -> bytes:
    """As https://www.w3.org/TR/png/ has it."""
    header = struct.pack(">IIBBBBB", len(rows[0]), len(rows), 8, 2, 0, 0, 0)
    lines = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in rows)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
