from pathlib import Path

from flask_first import app


def test_send_notification(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    response = app.test_client().post("/send-notification/ada@example.com")
    assert response.status_code == 200
    assert "ada@example.com" in Path("log.txt").read_text()  # the task has run
