"""What a full run has measured so far, in files: it takes long, and may fail at its end."""

from __future__ import annotations

import pickle

from benchmarks.results import Topic
from benchmarks.server import ROOT

FOLDER = ROOT / ".bench-run"


def forget() -> None:
    """Begin a run anew."""
    for file in FOLDER.glob("*.pickle"):
        file.unlink()


def keep(name: str, topic: Topic) -> None:
    """Keep what a topic has found."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.pickle").write_bytes(pickle.dumps(topic))


def kept(name: str) -> Topic | None:
    """What a topic has found in the last run; None if it has not got so far."""
    file = FOLDER / f"{name}.pickle"
    if not file.exists():
        return None
    topic = pickle.loads(file.read_bytes())
    return topic if isinstance(topic, Topic) else None
