"""GraphQL answers the exception of a mutation by itself: what it has added is discarded."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.test import AsyncClient, Client

import bgadapters.adapters
from bgadapters import add_task
from tests.django.serving import MIDDLEWARE, Log, Site
from tests.our_log import OurLog
from tests.views import add_both

SNIPPETS = Path(__file__).parents[2] / "docs" / "snippets"
Post = Callable[[Any], Any]


def through_client(body: Any) -> Any:
    response = Client().post("/", json.dumps(body), content_type="application/json")
    found = response.json()
    response.close()
    assert bgadapters.drain() == []
    return found


def through_async_client(body: Any) -> Any:
    async def main() -> Any:
        client = AsyncClient()
        response: Any = await client.post("/", json.dumps(body), content_type="application/json")
        assert await bgadapters.adrain() == []
        return response.json()

    return asyncio.run(main())


@pytest.fixture(params=[through_client, through_async_client], ids=["client", "async client"])
def post(request: pytest.FixtureRequest) -> Post:
    """Send a query, and wait for its tasks."""
    found: Post = request.param
    return found


def order(fails: bool) -> dict[str, str]:
    return {"query": f"mutation {{ order(fails: {json.dumps(fails)}) {{ ok }} }}"}


@pytest.fixture
def schema(log: Log) -> Any:
    graphene = pytest.importorskip("graphene")

    class Order(graphene.Mutation):  # type: ignore[misc,name-defined]  # it has no types
        class Arguments:
            fails = graphene.Boolean()

        ok = graphene.Boolean()

        def mutate(self, info: Any, fails: bool) -> Any:
            if fails:
                add_both(info.context.background_tasks, log)
                raise ValueError("sold out")
            add_task(log.append, "ordered")
            return Order(ok=True)

    class Mutation(graphene.ObjectType):  # type: ignore[misc,name-defined]
        order = Order.Field()

    class Query(graphene.ObjectType):  # type: ignore[misc,name-defined]
        hello = graphene.String()

    return graphene.Schema(Query, Mutation)


def graphene_view(schema: Any, **options: Any) -> Any:
    pytest.importorskip("graphene_django")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(SNIPPETS))
        view = importlib.import_module("graphql_view").ShopView
    return view.as_view(schema=schema, **options)


@pytest.mark.parametrize("atomic", [False, True])
def test_a_failed_mutation_of_graphene_discards_its_tasks(
    site: Site, log: Log, our_log: OurLog, post: Post, schema: Any, atomic: bool
) -> None:
    site.serve(
        graphene_view(schema), MIDDLEWARE=[MIDDLEWARE], GRAPHENE={"ATOMIC_MUTATIONS": atomic}
    )
    assert post(order(fails=False)) == {"data": {"order": {"ok": True}}}
    assert log == ["ordered"]
    assert post(order(fails=True))["errors"][0]["message"] == "sold out"
    assert log == ["ordered", "always"]
    assert our_log.messages == [
        "1 background task(s) discarded, the response failed with ValueError: sold out: list.append"
    ]


def test_the_other_operations_of_a_batch_keep_theirs(
    site: Site, log: Log, post: Post, schema: Any
) -> None:
    site.serve(graphene_view(schema, batch=True), MIDDLEWARE=[MIDDLEWARE])
    post([order(fails=False), order(fails=True), order(fails=False)])
    assert log == ["ordered", "always", "ordered"]


def test_what_fails_before_it_begins_has_nothing_to_discard(
    site: Site, log: Log, our_log: OurLog, post: Post, schema: Any
) -> None:
    site.serve(graphene_view(schema), MIDDLEWARE=[MIDDLEWARE])
    assert "errors" in post({"query": "mutation { no }"})
    assert "errors" in post({"query": "{"})
    assert "errors" in post({})
    assert "errors" in post({"query": 5})  # a TypeError, which is none of GraphQL's
    assert our_log.messages == []


def test_where_no_queue_is_open_the_view_works_as_ever(site: Site, post: Post, schema: Any) -> None:
    site.serve(graphene_view(schema))
    found = post(order(fails=True))["errors"][0]["message"]
    assert found == "'WSGIRequest' object has no attribute 'background_tasks'".replace(
        "WSGI", "ASGI" if post is through_async_client else "WSGI"
    )


def strawberry_view(log: Log, is_async: bool) -> Any:
    strawberry = pytest.importorskip("strawberry")
    from strawberry.django.views import AsyncGraphQLView, GraphQLView

    from bgadapters.graphql.strawberry import DiscardFailed

    def act(fails: bool) -> bool:
        if fails:
            add_both(bgadapters.adapters.current_queue(), log)
            raise ValueError("sold out")
        add_task(log.append, "ordered")
        return True

    async def aact(fails: bool) -> bool:
        return act(fails)

    @strawberry.type
    class Query:
        hello: str = "x"

    @strawberry.type
    class Mutation:
        order: bool = strawberry.mutation(resolver=aact if is_async else act)

    schema = strawberry.Schema(Query, Mutation, extensions=[DiscardFailed])
    return (AsyncGraphQLView if is_async else GraphQLView).as_view(schema=schema)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_failed_mutation_of_strawberry_discards_its_tasks(
    site: Site, log: Log, our_log: OurLog, post: Post, is_async: bool
) -> None:
    site.serve(strawberry_view(log, is_async), MIDDLEWARE=[MIDDLEWARE])
    assert post({"query": "mutation { order(fails: false) }"}) == {"data": {"order": True}}
    assert post({"query": "mutation { order(fails: true) }"})["errors"][0]["message"] == "sold out"
    assert "errors" in post({"query": "mutation { no }"})
    assert log == ["ordered", "always"]
    assert [message.partition(":")[0] for message in our_log.messages] == [
        "1 background task(s) discarded, the response failed with ValueError"
    ]
