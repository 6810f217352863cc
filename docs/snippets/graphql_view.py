from bgadapters.graphql.graphene import DiscardFailed
from graphene_django.views import GraphQLView


class ShopView(DiscardFailed, GraphQLView):
    pass
