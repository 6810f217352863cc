from pathlib import Path

from bgadapters import drain

from flask_first import app


def test_send_notification(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    app.test_client().post("/send-notification/ada@example.com").close()
    drain()
    assert "ada@example.com" in Path("log.txt").read_text()
