import django

SECRET_KEY = "for the documentation only"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "django_site.urls"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "accounts.sqlite3"}}
REST_FRAMEWORK = {"DEFAULT_AUTHENTICATION_CLASSES": [], "UNAUTHENTICATED_USER": None}
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# region: installed
INSTALLED_APPS = [
    "django_site",
    "bgadapters.django",
]
# endregion

# region: settings
BACKGROUND_TASKS = {
    "MAX_WORKERS": 4,
    "MAX_PENDING": 200,
    "ON_ERROR": "hooks.report",
}
# endregion

# region: middleware
MIDDLEWARE = [
    "django.middleware.common.CommonMiddleware",
    "bgadapters.django.BackgroundTasksMiddleware",
]
# endregion

# region: tasks
TASKS = {
    "default": {
        "BACKEND": "bgadapters.django.tasks.PostResponseBackend",
        "OPTIONS": {"MAX_RESULTS": 500},
    },
}
# endregion

if django.VERSION < (6,):
    TASKS["default"]["BACKEND"] = "bgadapters.django.tasks_backport.PostResponseBackend"
