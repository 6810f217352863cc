"""The conformance application in Django, served as WSGI and as ASGI."""

from tests.hosts.apps.django_setup import asgi, set_up, wsgi

set_up(__name__, "bgadapters.django")

wsgi_application = wsgi()
asgi_application = asgi()
