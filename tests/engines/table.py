"""The table of options and engines in docs/engines.md: what add_task accepts, asked of each.

``python -m tests.engines.table`` writes it. That an engine does what it accepts is for its own
tests to show (``contract.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from bgadapters import BackgroundTasks
from bgadapters.adapters import Engine, Runtime, mode, parse_settings
from bgadapters.testing import run_tasks
from tests.engines import work
from tests.running import ROOT

PAGE = ROOT / "docs" / "engines.md"
_BEGIN, _END = "<!-- Written by `python -m tests.engines.table`. -->\n\n", "\n<!-- Its end. -->"


class Asked(NamedTuple):
    """One row.

    Attributes:
        shown: its first cell.
        options: what a task is given.
    """

    shown: str
    options: Mapping[str, Any]


ROWS = [
    Asked("`retries`, `retry_on`, `backoff`", {"retries": 2}),
    Asked("`timeout`", {"timeout": 10.0}),
    Asked("`delay`, `run_after`", {"delay": 60.0}),
    Asked("`priority`", {"priority": 5}),
    Asked('`key`, `on_duplicate="keep"`', {"key": "k", "on_duplicate": "keep"}),
    Asked('`key`, `on_duplicate="replace"`', {"key": "k", "on_duplicate": "replace"}),
    Asked("`concurrency`", {"concurrency": "one"}),
    Asked("`durable`", {"durable": True}),
    Asked('`send="before_response"`', {"send": "before_response"}),
    Asked('`send="in_transaction"`', {"send": "in_transaction"}),
]


def _celery(broker: str, **conf: Any) -> Engine:
    from celery import Celery

    from bgadapters.engines.celery import CeleryEngine

    app = Celery("table", broker=broker, set_as_current=False)
    app.conf.update(conf)
    return CeleryEngine(app)


def _rabbitmq(_: Path) -> Engine:
    return _celery(
        "amqp://",
        task_queue_max_priority=10,
        broker_transport_options={"confirm_publish": True},
    )


def _huey(kind: str, **given: Any) -> Engine:
    import huey
    from huey.serializer import SignedSerializer

    from bgadapters.engines.huey import HueyEngine

    return HueyEngine(getattr(huey, kind)("table", serializer=SignedSerializer("x"), **given))


def _procrastinate(_: Path) -> Engine:
    from procrastinate import App
    from procrastinate.testing import InMemoryConnector

    from bgadapters.engines.procrastinate import ProcrastinateEngine

    return ProcrastinateEngine(App(connector=InMemoryConnector()))


def _process(_: Path) -> Engine:
    from bgadapters.engines.process import ProcessEngine

    return ProcessEngine()


COLUMNS: dict[str, Callable[[Path], Engine] | None] = {
    "`local`": None,
    "`process`": _process,
    "Celery, RabbitMQ": _rabbitmq,
    "Celery, Redis": lambda _: _celery("redis://"),
    "Procrastinate": _procrastinate,
    "Huey, SQLite": lambda here: _huey("SqliteHuey", filename=str(here / "huey.db")),
    "Huey, PriorityRedisHuey": lambda _: _huey("PriorityRedisHuey"),
    "Huey, RedisHuey": lambda _: _huey("RedisHuey"),
}


def accepts(engine: Engine | None, asked: Asked) -> bool:
    """Whether ``add_task`` accepts a task with such options for an engine."""
    engines = {} if engine is None else {"it": engine}
    settings = work.settings(engines=engines, concurrency={"one": 1}, store="sqlite://")
    queue = BackgroundTasks(runtime=Runtime(parse_settings(settings)))
    options: Any = {"engine": "local" if engine is None else "it", **asked.options}
    try:
        queue.options(**options).add_task(work.nothing)
    except TypeError:
        return False
    queue.release()  # in a test it runs here, at once
    return True


def table() -> str:
    """Return the table as it should be."""
    rows = [["Option", *COLUMNS], ["---"] * (1 + len(COLUMNS))]
    with TemporaryDirectory() as directory, run_tasks():
        assert mode.active is not mode.SERVING, "nothing is sent"
        here = Path(directory)
        engines = [None if make is None else make(here) for make in COLUMNS.values()]
        for asked in ROWS:
            cells = ("yes" if accepts(engine, asked) else "-" for engine in engines)
            rows.append([asked.shown, *cells])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def written() -> str:
    """Return the table that the page has."""
    return PAGE.read_text().partition(_BEGIN)[2].partition(_END)[0]


def main() -> None:
    text = PAGE.read_text()
    before, _, rest = text.partition(_BEGIN)
    PAGE.write_text(f"{before}{_BEGIN}{table()}{_END}{rest.partition(_END)[2]}")


if __name__ == "__main__":
    main()
