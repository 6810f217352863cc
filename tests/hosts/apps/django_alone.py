"""The same where the views are decorated and the settings know nothing of this library."""

from tests.hosts.apps.django_setup import asgi, set_up, wsgi

set_up(__name__)

wsgi_application = wsgi()
asgi_application = asgi()
