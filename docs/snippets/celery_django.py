INSTALLED_APPS = ["bgadapters.django"]
BACKGROUND_TASKS = {
    "ENGINES": {
        "heavy": {
            "BACKEND": "bgadapters.engines.celery.CeleryEngine",
            "OPTIONS": {"app": "shop.celery:app"},
        },
    },
}

CELERY_BROKER_URL = "amqp://guest:guest@localhost:5672//"
CELERY_BROKER_TRANSPORT_OPTIONS = {"confirm_publish": True}
