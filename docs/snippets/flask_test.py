from pathlib import Path

from bgadapters import drain

from flask_first import app


def test_send_notification(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    response = app.test_client().post("/send-notification/ada@example.com", buffered=True)
    drain()
    assert response.status_code == 200
    assert "ada@example.com" in Path("log.txt").read_text()
