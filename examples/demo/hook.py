"""Runs inside the servers: tells the demonstration what happens to each task.

The call returns when the demonstration has taken note. So a task does not begin until
the demonstration has looked whether the response arrived before it: on one machine,
what a server has sent by then is there to be read. A task that starts early, beside a
view that has not returned, may see its response arrive during this call; the time tells.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time

from bgadapters import TaskEvent


def tell(event: TaskEvent) -> None:
    """The examples' ``on_event`` while the demonstration runs."""
    if event.kind == "added":
        return
    task = event.task
    name = task.name.rpartition(".")[2]
    message = (task.kwargs or {}).get("message")
    note = {
        "kind": event.kind,
        "email": task.args[0],
        "task": name if message is None else f"{name}: {message}",
        "thread": threading.current_thread().name,
        "at": time.time(),
        "error": repr(event.exception) if event.exception else "",
    }
    with socket.create_connection(("127.0.0.1", int(os.environ["DEMO_PORT"])), timeout=10) as demo:
        demo.sendall(json.dumps(note).encode() + b"\n")
        demo.recv(1)
