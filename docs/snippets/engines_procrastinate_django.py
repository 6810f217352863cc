INSTALLED_APPS = ["procrastinate.contrib.django", "bgadapters.django"]
BACKGROUND_TASKS = {
    "ENGINES": {
        "jobs": {"BACKEND": "bgadapters.engines.procrastinate.ProcrastinateEngine"},
    },
    "TASK_MODULES": ["shop.tasks"],
}
