from django.contrib.auth import get_user_model
from django.utils.functional import SimpleLazyObject


def user_of(pk):
    """Return the user with this key, looked up when it is first used; None for none."""
    if pk is None:
        return None
    return SimpleLazyObject(lambda: get_user_model().objects.get(pk=pk))
