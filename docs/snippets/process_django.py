BACKGROUND_TASKS = {
    "ENGINES": {
        "process": {
            "BACKEND": "bgadapters.engines.process.ProcessEngine",
            "OPTIONS": {"max_processes": 2},
        }
    }
}
