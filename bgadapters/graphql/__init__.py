"""GraphQL: what answers the exception of a mutation by itself, so that no view has failed.

`bgadapters.graphql.graphene` is for graphene-django, `bgadapters.graphql.strawberry` for
Strawberry, whichever framework serves it.
"""
