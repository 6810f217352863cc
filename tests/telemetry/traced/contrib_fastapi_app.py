"""FastAPI, with OpenTelemetry's instrumentor in the place of its own telemetry, and with ours."""

from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from bgadapters.telemetry.opentelemetry import BackgroundTasksInstrumentor
from tests.telemetry.traced.fastapi_app import application

__all__ = ["application"]

BackgroundTasksInstrumentor().instrument()
FastAPIInstrumentor.instrument_app(application)
