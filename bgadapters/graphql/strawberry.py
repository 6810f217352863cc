"""Strawberry: a failed operation discards its tasks.

::

    from bgadapters.graphql.strawberry import DiscardFailed

    schema = strawberry.Schema(Query, Mutation, extensions=[DiscardFailed])
"""

from __future__ import annotations

from collections.abc import Iterator

from strawberry.extensions import SchemaExtension

from bgadapters.graphql.discard import Operation


class DiscardFailed(SchemaExtension):
    """An operation whose result has errors discards the tasks it has added.

    Tasks with ``always=True`` stay. In a batch, whose operations may run beside each other, it
    discards what these have added since it began.
    """

    def on_operation(self) -> Iterator[None]:
        """Look at the result of an operation, sync or async."""
        operation = Operation()
        yield
        operation.end(getattr(self.execution_context.result, "errors", None))
