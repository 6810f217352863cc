"""The framework and the backend are those that the environment names."""

import os

ALLOWED_HOSTS = ["*"]
BACKGROUND_TASKS = {"MAX_WORKERS": 1}
INSTALLED_APPS = ["bgadapters.django"]
LOGGING = {
    "version": 1,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"]},
}
MIDDLEWARE = ["bgadapters.django.BackgroundTasksMiddleware"]
ROOT_URLCONF = "tests.tasks_site.wsgi"
SECRET_KEY = "only for tests"
TASKS = {"default": {"BACKEND": os.environ["TASKS_BACKEND"]}}
USE_TZ = True
