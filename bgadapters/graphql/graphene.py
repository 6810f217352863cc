"""graphene-django: a failed operation discards its tasks.

::

    from bgadapters.graphql.graphene import DiscardFailed
    from graphene_django.views import GraphQLView

    class ShopView(DiscardFailed, GraphQLView):
        ...

Use it in the place of ``GraphQLView``.
"""

from __future__ import annotations

from typing import Any

from bgadapters.graphql.discard import Operation


class DiscardFailed:
    """For a ``GraphQLView``: an operation whose result has errors discards the tasks it has added.

    Tasks with ``always=True`` stay. In a batch the tasks of other operations stay too.
    """

    def execute_graphql_request(self, *args: Any, **kwargs: Any) -> Any:
        """Do as the view, which gives the result to this method of its own."""
        operation = Operation()
        result = super().execute_graphql_request(*args, **kwargs)  # type: ignore[misc]  # the view's
        operation.end(getattr(result, "errors", None))
        return result
