"""The committed page of hosts says what the host table and the limits say. Needs no server."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.hosts.limits import LIMITS, limits_of, unknown_hosts
from tests.hosts.servers import HOSTS, LIKE_OTHERS, REPEATS, ROOT, Host
from tests.hosts.table import KEPT, NOT_KEPT, PARTLY, Outcomes, Told, page, words_of

PAGE = ROOT / "docs" / "hosts.md"


def test_the_page_is_what_would_be_written_today() -> None:
    """Its rows are the hosts, its footnotes the limits: `make hosts` was run since they changed."""
    text = PAGE.read_text()
    words = words_of(text)
    assert {host for host, _ in words} == set(HOSTS)
    assert page(words) == text


def test_the_readme_names_every_server_and_those_with_limits() -> None:
    """Its headline leaves none out, neither among those tested nor among the exceptions."""
    section = (ROOT / "README.md").read_text().partition("## Where it was tested\n")[2]
    table, _, exceptions = section.partition("\n## ")[0].partition("\n[The table]")
    asgi, wsgi = (line for line in table.splitlines() if line.startswith(("| FastAPI", "| Flask")))
    for name, host in HOSTS.items():
        server = host.server.title.partition(",")[0].partition(" behind ")[0]
        assert server in (asgi if host.is_asgi else wsgi), name
        if any(limits_of(name, promise) for promise in range(1, 17)):
            assert server in exceptions, name


def test_what_is_not_kept_has_its_reason() -> None:
    """A cell refers to a limit if and only if there is one."""
    for (host, promise), word in words_of(PAGE.read_text()).items():
        if word in {KEPT, PARTLY, NOT_KEPT}:
            assert (word != KEPT) == bool(limits_of(host, promise)), (host, promise, word)


def test_every_server_and_every_framework_is_tried_before_a_change_lands() -> None:
    """What is left to `make hosts` is a host that others stand for."""
    left = REPEATS | LIKE_OTHERS
    assert left <= HOSTS.keys()
    tried = [host for name, host in HOSTS.items() if name not in left]
    assert frameworks_and_servers(tried) == frameworks_and_servers(HOSTS.values())


def frameworks_and_servers(hosts: Iterable[Host]) -> set[tuple[str, bool]]:
    """Their names, and whether each is of ASGI; nginx is one server, however it is spoken to."""
    return {
        (name.removesuffix("-keepalive"), host.is_asgi)
        for host in hosts
        for name in (host.framework.name, host.server.name)
    }


def test_limits_name_hosts_and_what_to_use_instead() -> None:
    assert unknown_hosts() == []
    assert all(limit.why.endswith(".") and limit.instead.endswith(".") for limit in LIMITS)


def report(outcome: str, when: str = "call", wasxfail: bool = False) -> pytest.TestReport:
    made = pytest.TestReport(
        nodeid="test",
        location=("test", 0, "test"),
        keywords={},
        outcome=outcome,  # type: ignore[arg-type]
        longrepr=None,
        when=when,  # type: ignore[arg-type]
    )
    if wasxfail:
        made.wasxfail = ""
    return made


def test_a_limit_that_was_met_is_said_and_the_rest_is_still_told() -> None:
    limit = LIMITS[0]
    host = next(name for name in HOSTS if limit.concerns(name, limit.promise))
    other = next(name for name in HOSTS if not limits_of(name, limit.promise))
    outcomes = Outcomes()
    outcomes.add(Told(host, (limit.promise,), 0), report("skipped", wasxfail=True))
    assert outcomes.words()[host, limit.promise] == NOT_KEPT
    outcomes.add(Told(host, (limit.promise,), None), report("passed"))
    outcomes.add(Told(other, (limit.promise,), None), report("passed"))
    words = outcomes.words()
    assert words[host, limit.promise] == PARTLY
    assert words[other, limit.promise] == KEPT
    assert limit not in outcomes.unmet()
    assert words_of(page(words)) == words


@pytest.mark.parametrize("outcome", ["passed", "skipped"])
def test_what_fails_only_sometimes_is_kept_in_part(outcome: str) -> None:
    """The page does not depend on which way such a test went."""
    index, limit = next((i, limit) for i, limit in enumerate(LIMITS) if not limit.always)
    host = next(name for name in HOSTS if limit.concerns(name, limit.promise))
    outcomes = Outcomes()
    outcomes.add(Told(host, (limit.promise,), index), report(outcome, wasxfail=True))
    assert outcomes.words()[host, limit.promise] == PARTLY
    assert limit not in outcomes.unmet()
