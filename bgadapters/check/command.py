"""``python -m bgadapters check``: say whether a deployment keeps the promises."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import secrets
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any
from urllib.parse import urlsplit

from bgadapters.check.evidence import Evidence, examine
from bgadapters.check.findings import Finding, judge
from bgadapters.check.gateways import ASGIGateway, HTTPGateway, Request, WSGIGateway
from bgadapters.core.app.runtime import CHECK_TOKEN, check_token
from bgadapters.core.model.errors import SettingsError
from bgadapters.target import TargetError, interface_of, load, targets_of_django


def _run(given: argparse.Namespace) -> int:
    check: argparse.ArgumentParser = given.parser
    try:
        targets = [given.target] if given.target else targets_of_django()
        token = secrets.token_hex()
        with redirect_stdout(sys.stderr):  # what the application prints is no finding
            found = {target: _check(target, given, token) for target in targets}
    except (TargetError, SettingsError) as exc:
        check.error(str(exc))
    if given.json:
        print(json.dumps({t: [f._asdict() for f in each] for t, each in found.items()}, indent=2))  # noqa: T201
    else:
        for target, findings in found.items():
            print(target, *findings, sep="\n")  # noqa: T201
    return int(any(f.verdict == "FAILED" for findings in found.values() for f in findings))


def add_to(commands: Any) -> None:
    """Add the command to a command line.

    Args:
        commands: what `argparse.ArgumentParser.add_subparsers` has returned.
    """
    check = commands.add_parser(
        "check",
        help="say whether a deployment keeps the promises, and what to change",
        description="Say whether a deployment keeps the promises, and what to change. Sends real "
        "requests: name a path that may be requested a few times.",
        epilog="Exit code: 0 if all is kept, 1 if something is not, 2 for wrong usage.",
    )
    check.set_defaults(run=_run, parser=check)
    check.add_argument(
        "target",
        nargs="?",
        help="module:application, which is called here as a server would call it; or the URL of a "
        f"server that runs on this machine, with {CHECK_TOKEN} in its environment and in this one. "
        "Default: WSGI_APPLICATION and ASGI_APPLICATION of the settings that "
        "DJANGO_SETTINGS_MODULE names",
    )
    check.add_argument("--path", help="what to request (default: /, or that of the URL)")
    check.add_argument("--method", default="GET", help="the request's method (default: GET)")
    check.add_argument(
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="'NAME: VALUE'",
        help="a header of the request, any number of times",
    )
    check.add_argument(
        "--factory", action="store_true", help="the target is a function that returns it"
    )
    check.add_argument(
        "--interface",
        choices=("wsgi", "asgi"),
        help="how the application is called (default: found out)",
    )
    check.add_argument(
        "--timeout",
        type=float,
        default=5.0,
        metavar="SECONDS",
        help="how long to wait for what should happen (default: 5)",
    )
    check.add_argument("--json", action="store_true", help="print the findings as JSON")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not 'Name: value'")
    return name, value.strip()


def _check(target: str, given: argparse.Namespace, token: str) -> list[Finding]:
    if re.match(r"https?://", target):
        return judge(_over_http(target, given))
    os.environ[CHECK_TOKEN] = token  # before the application makes its runtime
    try:
        application = load(target, is_factory=given.factory)
    except TargetError:
        raise
    except Exception as exc:
        traceback.print_exc()
        return [Finding("FAILED", "queue", f"importing it raised {type(exc).__name__}: {exc}")]
    request = _request(given, "/")
    if (given.interface or interface_of(application)) == "wsgi":
        return judge(
            examine(WSGIGateway(application, given.timeout), request, token, given.timeout)
        )
    return asyncio.run(_as_asgi_server(application, request, token, given.timeout))


def _request(given: argparse.Namespace, path: str) -> Request:
    path = given.path or path
    return Request(path if path.startswith("/") else f"/{path}", given.method, given.header)


def _over_http(url: str, given: argparse.Namespace) -> Evidence:
    token = check_token()  # refuses what the server refuses
    if token is None:
        raise TargetError(
            f"set {CHECK_TOKEN} to what the server was started with; if it was started without, "
            f"start it again, for example with {CHECK_TOKEN}=$(openssl rand -hex 16)"
        )
    parts = urlsplit(url)
    request = _request(given, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    gateway = HTTPGateway(url, given.timeout)
    try:
        return examine(gateway, request, token, given.timeout)
    finally:
        gateway.close()


async def _as_asgi_server(
    application: Callable[..., Any], request: Request, token: str, patience: float
) -> list[Finding]:
    gateway = ASGIGateway(application, patience)
    failure = await gateway.start()
    if failure is not None:
        return [Finding("FAILED", "shutdown", f"the application does not start: {failure}")]
    try:
        return judge(await asyncio.to_thread(examine, gateway, request, token, patience))
    finally:
        await gateway.stop()
