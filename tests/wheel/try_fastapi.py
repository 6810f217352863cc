"""The extra ``fastapi`` alone: the dependency serves a request, called as a server calls it."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI

from bgadapters.fastapi import BackgroundTasks

app = FastAPI()
ran: list[str] = []
sent: list[MutableMapping[str, Any]] = []


@app.post("/{email}")
async def view(email: str, background_tasks: BackgroundTasks) -> str:
    background_tasks.add_task(ran.append, email)
    return "sent"


async def receive() -> MutableMapping[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: MutableMapping[str, Any]) -> None:
    sent.append(message)


scope = {
    "type": "http",
    "method": "POST",
    "path": "/a@b.example",
    "query_string": b"",
    "headers": [],
    "asgi": {"version": "3.0"},
}
asyncio.run(app(scope, receive, send))
assert sent[0]["status"] == 200, sent
assert ran == ["a@b.example"], ran
