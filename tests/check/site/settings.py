ALLOWED_HOSTS = ["example.com"]
ASGI_APPLICATION = "tests.check.site.asgi.application"
BACKGROUND_TASKS = {"MAX_WORKERS": 5}
DATABASES: dict[str, object] = {}
INSTALLED_APPS = ["bgadapters.django"]
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
]
ROOT_URLCONF = "tests.check.site.urls"
SECRET_KEY = "test"
USE_TZ = True
WSGI_APPLICATION = "tests.check.site.wsgi.application"
