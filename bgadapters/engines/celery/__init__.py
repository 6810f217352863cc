"""Celery: tasks go to its broker, and its workers run them.

::

    from bgadapters.engines.celery import CeleryEngine

    init_app(app, engines={"heavy": CeleryEngine(celery_app)})

    background_tasks.options(engine="heavy").add_task(make_report, 1)
"""

from bgadapters.adapters import explain_missing

try:
    from bgadapters.engines.celery.engine import CeleryEngine
except ModuleNotFoundError as missing:
    for needed in ("celery", "kombu"):
        explain_missing(
            missing, needed, "bgadapters.engines.celery needs it: pip install 'bgadapters[celery]'."
        )
    raise

__all__ = ["CeleryEngine"]
