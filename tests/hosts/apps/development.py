"""Servers that are started from Python: ``python -m ... SERVER MODULE:APP PORT``."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def wsgiref(app: Any, port: int) -> None:
    from wsgiref.simple_server import make_server

    make_server("127.0.0.1", port, app).serve_forever()


def werkzeug(app: Any, port: int) -> None:
    from werkzeug.serving import run_simple

    run_simple("127.0.0.1", port, app, threaded=True)


def runserver(_: Any, port: int) -> None:
    """Start what the settings' WSGI_APPLICATION names, with Django's own command."""
    from django.core.management import call_command

    call_command("runserver", f"127.0.0.1:{port}", "--noreload")


def a2wsgi(app: Any, port: int) -> None:
    import uvicorn
    from a2wsgi import WSGIMiddleware

    uvicorn.run(WSGIMiddleware(app), port=port)


SERVERS = {"wsgiref": wsgiref, "werkzeug": werkzeug, "runserver": runserver, "a2wsgi": a2wsgi}

if __name__ == "__main__":
    server, target, port = sys.argv[1:]
    module, _, name = target.partition(":")
    SERVERS[server](getattr(import_module(module), name), int(port))
