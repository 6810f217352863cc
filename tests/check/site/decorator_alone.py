"""Settings that know nothing of this library: the views are decorated, and that is all."""

ALLOWED_HOSTS = ["example.com"]
ROOT_URLCONF = "tests.check.site.urls"
SECRET_KEY = "test"
USE_TZ = True
WSGI_APPLICATION = "tests.check.site.wsgi.application"
