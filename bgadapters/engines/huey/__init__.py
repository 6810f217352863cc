"""Huey: tasks are put into its queue, and its consumer runs them. The extra ``huey``.

::

    huey = SqliteHuey("shop", filename="huey.db", serializer=SignedSerializer(secret=SECRET))

    init_app(app, engines={"heavy": HueyEngine(huey)})

The consumer is that of the module in which the application is set up with the engine:
``huey_consumer shop.main.huey``.
"""

from bgadapters.adapters import explain_missing

try:
    from bgadapters.engines.huey.engine import HueyEngine
except ModuleNotFoundError as missing:
    explain_missing(missing, "huey", "HueyEngine needs it: pip install 'bgadapters[huey]'.")
    raise

__all__ = ["HueyEngine"]
