INSTALLED_APPS = [
    "django_site",
    "bgadapters.django",
    "bgadapters.django.durable",
]

BACKGROUND_TASKS = {"STORE": "django"}
