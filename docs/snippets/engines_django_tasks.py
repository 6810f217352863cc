INSTALLED_APPS = ["django_tasks_db", "bgadapters.django"]
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}
BACKGROUND_TASKS = {
    "ENGINES": {
        "tasks": {
            "BACKEND": "bgadapters.engines.django_tasks.DjangoTasksEngine",
            "OPTIONS": {"alias": "default"},
        },
    },
    "TASK_MODULES": ["shop.tasks"],
}
