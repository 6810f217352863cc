import strawberry
from bgadapters import add_task
from bgadapters.graphql.strawberry import DiscardFailed

from notifications import write_notification


@strawberry.type
class Query:
    greeting: str = "welcome"


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def order(self, email: str, stock: int) -> bool:
        add_task(write_notification, email, message="ordered")
        if not stock:
            raise ValueError("sold out")  # an error of GraphQL: the task is discarded
        return True


schema = strawberry.Schema(Query, Mutation, extensions=[DiscardFailed])
