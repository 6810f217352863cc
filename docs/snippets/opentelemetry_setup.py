from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor

BackgroundTasksInstrumentor().instrument()
