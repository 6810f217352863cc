"""Kombu's messages in files, each of which is there whole or not at all.

Kombu writes a message where readers already look for it: one that is found half written cannot be
read, and ends the worker.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from time import monotonic
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Writes a message beside, and then gives it the name that readers look for."""

    def _put(  # type: ignore[override]  # its two bases name its arguments differently
        self, queue: str, payload: Any, **kwargs: Any
    ) -> None:
        place = Path(self.data_folder_out)
        name = f"{round(monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        unfinished = place / f"{name}.unfinished"
        unfinished.write_text(dumps(payload))  # type: ignore[no-untyped-call]
        os.replace(unfinished, place / name)


class Transport(filesystem.Transport):
    """That which uses it, for Celery's setting ``broker_transport``."""

    Channel = Channel
