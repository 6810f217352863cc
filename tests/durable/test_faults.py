"""Durable tasks on real servers that are killed: what was answered runs, once unless it was met."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.durable.storm import SERVERS, Place, Storm, judge, kill, kill_all

pytestmark = pytest.mark.host
servers = pytest.mark.parametrize("server", SERVERS)


@pytest.mark.slow
@servers
@pytest.mark.parametrize("whom", ["worker", "all", "master"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_what_was_answered_before_a_kill_runs(
    tmp_path: Path, server: str, whom: str, seed: int
) -> None:
    _storm(tmp_path, server, whom, seed, 1000)


@pytest.mark.parametrize(("server", "whom"), [("gthread", "worker"), ("uvicorn", "all")])
def test_what_was_answered_before_a_kill_runs_in_short(
    tmp_path: Path, server: str, whom: str
) -> None:
    _storm(tmp_path, server, whom, 0, 200)


def _storm(directory: Path, server: str, whom: str, seed: int, total: int) -> None:
    """Kill somebody at a random moment, go on, kill all, start again."""
    choice = random.Random(f"{server} {whom} {seed}")
    place = Place(directory)
    kills = []
    with place.serving(*SERVERS[server]) as first:
        with Storm(first.port, total) as storm:
            storm.wait_for(choice.randrange(total // 10, total * 8 // 10))
            time.sleep(choice.uniform(0, 0.02))  # somewhere within a request
            if whom == "worker":
                kills.append(kill(choice.choice(list(storm.answered.values()))))
            elif whom == "master":
                kills.append(kill(first.process.pid))
                time.sleep(choice.uniform(0, 1))  # it is for the workers to notice
                storm.stop()
            else:
                kills.append(kill_all(first))
                storm.stop()
        kills.append(kill_all(first))
    with place.serving(*SERVERS[server]):
        place.wait_until_empty()
    outcome = judge(storm, place, kills)
    print(f"\n{server}, {whom} killed, seed {seed}: {outcome}")
    assert place.stored.count() == {"waiting": 0, "failed": 0}
