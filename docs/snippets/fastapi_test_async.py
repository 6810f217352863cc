from pathlib import Path

import pytest
from httpx import ASGITransport, AsyncClient

from fastapi_first import app


@pytest.mark.anyio
async def test_send_notification(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        await client.post("/send-notification/ada@example.com")
    assert "ada@example.com" in Path("log.txt").read_text()
