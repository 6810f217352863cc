"""Serves one request and ends: what was to be sent is sent."""

from __future__ import annotations

import asyncio
import sys

import django
from django.test import AsyncClient, Client


def main(how: str) -> None:
    django.setup()
    response = asyncio.run(AsyncClient().get("/add")) if how == "asgi" else Client().get("/add")
    assert response.status_code == 200, response.status_code


if __name__ == "__main__":
    main(sys.argv[1])
