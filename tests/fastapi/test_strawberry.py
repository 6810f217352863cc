"""Strawberry answers the exception of a mutation by itself: what it has added is discarded."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

import bgadapters.adapters
from bgadapters import add_task
from bgadapters.fastapi import BackgroundTasks, init_app
from tests.our_log import OurLog
from tests.views import add_both


async def context(background_tasks: BackgroundTasks) -> dict[str, Any]:
    return {"tasks": background_tasks}


def schema(log: list[Any]) -> Any:
    strawberry = pytest.importorskip("strawberry")
    from bgadapters.graphql.strawberry import DiscardFailed

    async def act(fails: bool) -> bool:
        if fails:
            add_both(bgadapters.adapters.current_queue(), log)
            raise ValueError("sold out")
        add_task(log.append, "ordered")
        return True

    @strawberry.type
    class Query:
        hello: str = "x"

    @strawberry.type
    class Mutation:
        order: bool = strawberry.mutation(resolver=act)

    return strawberry.Schema(Query, Mutation, extensions=[DiscardFailed])


@pytest.mark.parametrize("way", ["by the dependency", "by init_app"])
def test_a_failed_mutation_discards_its_tasks(way: str, our_log: OurLog) -> None:
    fastapi = pytest.importorskip("strawberry.fastapi")
    app, log = FastAPI(), list[Any]()
    if way == "by init_app":
        init_app(app)
        router = fastapi.GraphQLRouter(schema(log))
    else:
        router = fastapi.GraphQLRouter(schema(log), context_getter=context)
    app.include_router(router, prefix="/graphql")
    with TestClient(app) as client:
        for fails in ("false", "true"):
            body = {"query": f"mutation {{ order(fails: {fails}) }}"}
            answered = client.post("/graphql", json=body).json()
            assert ("errors" in answered) is (fails == "true")
    assert log == ["ordered", "always"]
    assert [message.partition(":")[0] for message in our_log.messages] == [
        "1 background task(s) discarded, the response failed with ValueError"
    ]
