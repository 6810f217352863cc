"""The example of a shim, on a real server."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.running import ROOT, running

pytestmark = [pytest.mark.host, pytest.mark.quick]


def post(url: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.promise(2, 6, 9)
def test_tasks_run_after_the_response_and_those_of_a_failed_view_do_not(tmp_path: Path) -> None:
    command = ("{bin}/waitress-serve", "--listen=127.0.0.1:{port}", "bottle_shim:app")
    path = str(ROOT / "docs" / "snippets")
    chdir = ("env", f"--chdir={tmp_path}")  # where its tasks write
    with running(tmp_path, *chdir, *command, PYTHONPATH=f"{path}:{ROOT}") as server:
        assert post(f"{server.url}/order/ada") == 200
        assert post(f"{server.url}/order/bob?stock=0") == 409
        server.process.terminate()
        assert server.process.wait(30) == 0
    assert (tmp_path / "log.txt").read_text() == "notification for ada: ordered\n"
    assert "1 background task(s) discarded" in server.log.read_text()
