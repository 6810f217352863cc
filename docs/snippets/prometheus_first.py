from bgadapters.telemetry import prometheus

prometheus.instrument()
