"""Fifty sign-ups, ``kill -9`` in the middle, fifty mails: ``python -m examples.demo.durable``.

It starts ``examples/durable_app.py`` on uvicorn, signs fifty people up, kills the server with
SIGKILL once half of them have their answer, and starts it again for the others. It receives the
mail in an SMTP server of its own that takes a moment for each. Whoever got no answer signs up
again, as people do. It exits with 0 only if all of them were answered and have their mail.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiosmtpd.smtp import SMTP

from examples.demo.plan import Host
from examples.demo.server import running

PEOPLE = [f"person{number:02}@example.org" for number in range(1, 51)]
_HOST = Host("FastAPI on uvicorn", "uvicorn examples.durable_app:app", "--port 0")
_CLIENTS = 4
_KILLED_AFTER = len(PEOPLE) // 2
_SECONDS_A_MAIL = 0.3
_DEADLINE = 60.0
_BAR = 60


class Sightings:
    """What was seen, in seconds since the beginning."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.answered: dict[str, float] = {}
        self.asked_again: set[str] = set()
        self.mails: dict[str, list[float]] = {}
        self.killed = self.restarted = 0.0
        self.changed = asyncio.Condition()

    def now(self) -> float:
        """The time."""
        return time.monotonic() - self._began

    async def note_answer(self, person: str) -> None:
        """Somebody was signed up."""
        async with self.changed:
            self.answered[person] = self.now()
            self.changed.notify_all()

    async def note_mail(self, person: str) -> None:
        """Somebody has got mail."""
        async with self.changed:
            self.mails.setdefault(person, []).append(self.now())
            self.changed.notify_all()

    @property
    def without_mail(self) -> list[str]:
        """Whoever has none."""
        return [person for person in PEOPLE if person not in self.mails]

    @property
    def twice(self) -> list[str]:
        """Whoever has more than one."""
        return [person for person in PEOPLE if len(self.mails.get(person, ())) > 1]


def main() -> int:
    """Run the demonstration; returns its exit code."""
    return asyncio.run(_demonstrate())


async def _demonstrate() -> int:
    seen = Sightings()
    with TemporaryDirectory(prefix="demo-") as directory:
        store = Path(directory) / "tasks.db"
        async with _mail_server(seen) as port:
            environ = {"TASK_STORE": f"sqlite:///{store}", "SMTP_ADDRESS": f"127.0.0.1:{port}"}
            print(f"{_HOST.command}, {len(PEOPLE)} sign-ups, kill -9 in the middle", flush=True)
            try:
                async with asyncio.timeout(_DEADLINE):
                    log = await _visit(seen, environ)
            except TimeoutError:
                log = []
                print(f"WRONG: not done within {_DEADLINE:g} s")
    print(report(seen), flush=True)
    found = problems(seen)
    if found:
        print(*(f"WRONG: {problem}" for problem in found), *log[-20:], sep="\n")
        return 1
    print(
        f"PASSED: {len(seen.answered)} signed up, {len(seen.mails)} have their welcome mail, "
        f"{len(seen.twice)} of them twice: at the kill it was under way, or they asked again."
    )
    return 0


async def _visit(seen: Sightings, environ: dict[str, str]) -> list[str]:
    left = list(reversed(PEOPLE))
    async with running(_HOST, environ, _DEADLINE) as server:
        clients = await _clients(seen, left, await server.port())
        async with seen.changed:
            await seen.changed.wait_for(lambda: len(seen.answered) >= _KILLED_AFTER)
        server.kill()
        seen.killed = seen.now()
        await server.gone.wait()
        await asyncio.gather(*clients)  # they find that nobody answers
    async with running(_HOST, environ, _DEADLINE) as server:
        port = await server.port()
        seen.restarted = seen.now()
        await asyncio.gather(*await _clients(seen, left, port))
        async with seen.changed:
            await seen.changed.wait_for(lambda: not seen.without_mail)
    # It has ended: what it had left to do, such as sending a mail twice, is done.
    return server.log


async def _clients(seen: Sightings, left: list[str], port: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(_sign_up(seen, left, port)) for _ in range(_CLIENTS)]


async def _sign_up(seen: Sightings, left: list[str], port: int) -> None:
    """Sign up those who are left, until nobody is or the server is gone."""
    while left:
        person = left.pop()
        if await asyncio.to_thread(_is_answered, person, port):
            await seen.note_answer(person)
            await asyncio.sleep(0.05)
        else:
            seen.asked_again.add(person)
            left.append(person)
            return


def _is_answered(person: str, port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=_DEADLINE)
    try:
        connection.request("POST", f"/sign-up/{person}")
        response = connection.getresponse()
        response.read()  # raises if it is not whole
        return response.status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


@asynccontextmanager
async def _mail_server(seen: Sightings) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    mailbox = _Mailbox(seen)
    server = await loop.create_server(lambda: SMTP(mailbox, loop=loop), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


class _Mailbox:
    """Has a mail once it has taken all of it, though its sender may not live to know."""

    def __init__(self, seen: Sightings) -> None:
        self._seen = seen

    async def handle_DATA(self, _: SMTP, __: object, envelope: Any) -> str:  # noqa: N802  aiosmtpd's name
        """Receive a message."""
        for person in envelope.rcpt_tos:
            await self._seen.note_mail(person)
        await asyncio.sleep(_SECONDS_A_MAIL)
        return "250 OK"


def report(seen: Sightings) -> str:
    """Return the timeline: a line for each sign-up, in the order of the answers."""
    times = [time for mails in seen.mails.values() for time in mails]
    longest = max([*times, *seen.answered.values(), seen.restarted, 0.001])
    lines = [f"{'':20}{'answered':>9}{'mail':>7}   . until the answer, # until the mail"]
    rows = [(at, _line(seen, person, longest)) for person, at in seen.answered.items()]
    for what, at in (("kill -9", seen.killed), ("started again", seen.restarted)):
        rows.append((at, f"{f'{what} at {at:.2f} s ':-<39}{_bar(seen, longest, '-')}"))
    return "\n".join([*lines, *(line for _, line in sorted(rows))])


def _line(seen: Sightings, person: str, longest: float) -> str:
    answered, mails = seen.answered[person], seen.mails.get(person, [])
    last = max(mails, default=answered)
    bar = list(_bar(seen, longest, " "))
    for place in range(_place(last, longest) + 1):
        if bar[place] == " ":
            bar[place] = "." if place <= _place(answered, longest) else "#"
    mail = f"{last:7.2f}" if mails else "   none"
    notes = ["asked again"] * (person in seen.asked_again) + ["twice"] * (len(mails) > 1)
    return f"{person:20}{answered:9.2f}{mail}   {''.join(bar)}  {', '.join(notes)}".rstrip()


def _bar(seen: Sightings, longest: float, blank: str) -> str:
    """An empty bar with the kill and the restart in it."""
    bar = [blank] * _BAR
    bar[_place(seen.killed, longest)] = "X"
    bar[_place(seen.restarted, longest)] = "|"
    return "".join(bar)


def _place(at: float, longest: float) -> int:
    return min(_BAR - 1, int(at / longest * _BAR))


def problems(seen: Sightings) -> list[str]:
    """Return what is not as promised."""
    found = [f"{each} was not answered" for each in PEOPLE if each not in seen.answered]
    found += [f"{each} has no mail" for each in seen.without_mail]
    early = [e for e, at in seen.answered.items() if at <= seen.killed]
    if not any(seen.killed < min(seen.mails.get(each, [0.0])) for each in early):
        found.append("nothing was left at the kill, so that it has shown nothing")
    return found


if __name__ == "__main__":
    sys.exit(main())
