"""The same with the ASGI application of this library."""

from tests.hosts.apps.django_setup import set_up
from tests.hosts.probe import ASGIProbe

set_up(__name__, "bgadapters.django")

from bgadapters.django.asgi import get_asgi_application  # noqa: E402  after the settings

asgi_application = ASGIProbe(get_asgi_application())
