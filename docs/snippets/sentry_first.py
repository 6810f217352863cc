import sentry_sdk
from bgadapters.telemetry.sentry import BackgroundTasksIntegration

sentry_sdk.init(
    dsn="https://key@sentry.example.com/1",
    traces_sample_rate=0.1,
    integrations=[BackgroundTasksIntegration()],
)
