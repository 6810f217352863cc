"""How tests are spread over processes, and what they see of our log."""

from __future__ import annotations

import gc
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests import costs
from tests.our_log import OurLog

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling

# A machine with much to do makes an example slow, and no example wrong.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_ARGUMENTS = re.compile(r"\[(?P<arguments>.*)\]$")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", metavar="FILE", help="write the list of costly tests to this file")


def pytest_configure(config: pytest.Config) -> None:
    """Hear SIGINT, as do servers started here: a shell has its background jobs ignore it."""
    gc.disable()  # until there is something to collect: what is imported and collected stays
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given: Any = config.getoption("--costs")
    if given is not None:
        is_worker = hasattr(config, "workerinput")  # of xdist, whose reports go to another process
        file = None if is_worker else Path(given)
        config.pluginmanager.register(costs.Costs(file))


@pytest.hookimpl(tryfirst=True)  # before marks are looked at
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that cost more than the inner loop has."""
    names = costs.read(costs.LIST)
    for item in items:
        if costs.function_of(item.nodeid) in names:
            item.add_marker("costly")


def pytest_collection_finish() -> None:
    """Have tests look for garbage among what they make, not among all modules and all tests."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Keep the tests of one host together, so that its server is started once.

    ``--dist loadgroup`` would do, but passes the groups on in an attribute of tests that
    pytest 9.2 does not look at any more: each worker then starts all the servers.
    """
    from xdist.scheduler import LoadScopeScheduling

    from tests.hosts.servers import HOSTS

    names = sorted(HOSTS, key=len, reverse=True)  # some begin like others

    class ByHost(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
        def _split_scope(self, nodeid: str) -> str:
            found = _ARGUMENTS.search(nodeid)
            if found is None or "tests/hosts/" not in nodeid:
                return nodeid
            return next((name for name in names if name in found["arguments"]), nodeid)

    return ByHost(config, log)


@pytest.fixture
def our_log(caplog: pytest.LogCaptureFixture) -> OurLog:
    """What bgadapters has said in its log so far."""
    return OurLog(caplog)
