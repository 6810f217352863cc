"""Where a probe reports."""

from __future__ import annotations

import socket

import pytest

from bgadapters.check.listener import Listener
from tests.core.ways import PATIENCE


@pytest.mark.parametrize("sent", [b"\x00\x00\x01\x04GET\n", b"[]\n", b"GET / HTTP/1.1\r\n", b""])
def test_who_is_no_probe_is_no_visit(sent: bytes) -> None:
    """Anybody on this machine may come to a port."""
    with Listener() as listener:
        with socket.create_connection(("127.0.0.1", listener.port)) as stranger:
            stranger.sendall(sent)
        with socket.create_connection(("127.0.0.1", listener.port)) as probe:
            probe.sendall(b'{"what": "opened"}\n')
            assert listener.saw("opened", PATIENCE)
        assert listener.finished(PATIENCE)
        assert [visit.count("opened") for visit in listener.visits()] == [1]
