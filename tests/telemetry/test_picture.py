"""The picture of a trace in the documentation is made of the spans of a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

pytest.importorskip("opentelemetry.sdk", reason="opentelemetry-sdk is not installed")
pytest.importorskip("opentelemetry.instrumentation.flask", reason="it is not installed")

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def shown(picture: Path) -> list[str]:
    """The names of spans in a picture, from the top to the bottom."""
    texts = ["".join(e.itertext()) for e in ElementTree.parse(picture).iter() if e.get("x")]
    return [text for text in texts if text.startswith(("run ", "POST /"))]


def test_it_shows_a_request_and_its_tasks(tmp_path: Path) -> None:
    made = tmp_path / "trace.svg"
    subprocess.run([sys.executable, PICTURES / "trace.py", made], check=True, capture_output=True)
    tasks = ["run send_receipt", "run update_search", "run tell_warehouse"]
    assert shown(made) == ["POST /orders", *tasks]
    assert shown(PICTURES / "trace.svg") == shown(made)
