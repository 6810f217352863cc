"""Applications whose tasks arrive at one place run their own."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from bgadapters import BackgroundTasks, SettingsError, TaskEvent
from bgadapters.adapters import Arrivals, FrameworkHooks, Runtime, parse_settings
from bgadapters.engines import RefusedError
from bgadapters.testing import capture_tasks
from tests.core import durable_tasks
from tests.core.durable_tasks import happened
from tests.core.memory_engine import MemoryEngine
from tests.core.ways import PATIENCE
from tests.our_log import OurLog

HERE = ["tests.core.durable_tasks"]
pytestmark = pytest.mark.usefixtures("nothing_has_happened")


class App:
    """An application, and what is told in it."""

    def __init__(
        self, engine: MemoryEngine, hooks: FrameworkHooks | None = None, **given: Any
    ) -> None:
        self.events: list[TaskEvent] = []
        settings = {"engines": {"it": engine}, "task_modules": HERE, **given}
        self.runtime = Runtime(parse_settings({**settings, "on_event": self.events.append}), hooks)
        self.engine = engine

    def send(self) -> str:
        """Send a task; return its message."""
        with BackgroundTasks(runtime=self.runtime) as tasks:
            tasks.options(engine="it").add_task(durable_tasks.note, 1)
        assert self.runtime.drain(PATIENCE) == []
        self.events.clear()
        return self.engine.messages.pop().payload

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def beside(engine: MemoryEngine) -> MemoryEngine:
    """Another engine of the same place."""
    other = MemoryEngine()
    other.arrivals = engine.arrivals
    return other


def the_same(engine: MemoryEngine) -> MemoryEngine:
    return engine


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


@pytest.mark.parametrize("another", [beside, the_same])
@pytest.mark.parametrize("how", ["setting", "framework"])
def test_each_runs_its_own(
    engine: MemoryEngine, another: Callable[[MemoryEngine], MemoryEngine], how: str
) -> None:
    if how == "setting":
        shop, admin = App(engine, name="shop"), App(another(engine), name="admin")
    else:
        shop = App(engine, FrameworkHooks(name="shop"))
        admin = App(another(engine), FrameworkHooks(name="admin"))
    payload = shop.send()
    admin.engine.run(payload)
    assert (shop.kinds(), admin.kinds()) == (["started", "succeeded"], [])
    shop.engine.run(admin.send())
    assert (shop.kinds(), admin.kinds()) == (["started", "succeeded"], ["started", "succeeded"])


@pytest.mark.parametrize("hooks", [FrameworkHooks(), FrameworkHooks(name="shop")])
def test_two_that_cannot_be_told_apart_are_refused(
    engine: MemoryEngine, hooks: FrameworkHooks
) -> None:
    first = App(engine, hooks)
    with pytest.raises(SettingsError, match=r"MemoryEngine, .* same, '(shop)?'.*name='shop'\)"):
        App(beside(engine), hooks)
    engine.run(first.send())
    assert first.kinds() == ["started", "succeeded"]


def test_one_application_may_have_several_engines_of_a_place(engine: MemoryEngine) -> None:
    engines = {"it": engine, "other": beside(engine)}
    app = App(engine, engines=engines)
    engines["other"].run(app.send())
    assert app.kinds() == ["started", "succeeded"]


@pytest.mark.parametrize(
    ("given", "hooks"),
    [({"name": "shop"}, None), ({}, FrameworkHooks(name="django", is_only_one=True))],
)
def test_one_that_is_made_anew_takes_the_place_of_the_earlier(
    engine: MemoryEngine, given: Any, hooks: FrameworkHooks | None
) -> None:
    earlier, later = App(engine, hooks, **given), App(engine, hooks, **given)
    engine.run(earlier.send())
    assert (earlier.kinds(), later.kinds()) == ([], ["started", "succeeded"])


def test_one_that_is_gone_is_in_nobodys_way(engine: MemoryEngine) -> None:
    def make() -> None:
        app = App(engine)
        app.events.append(app)  # type: ignore[arg-type]  # a cycle

    make()
    app = App(engine)
    engine.run(app.send())
    assert app.kinds() == ["started", "succeeded"]


def test_in_tests_applications_may_follow_each_other(engine: MemoryEngine) -> None:
    with capture_tasks():
        apps = [App(engine), App(engine)]
    engine.run(apps[1].send())
    assert apps[1].kinds() == ["started", "succeeded"]


@pytest.mark.parametrize(
    ("sender", "sole"),
    [({"name": "shop"}, {}), ({}, {"name": "shop"}), ({}, {})],
)
def test_the_only_one_runs_what_may_be_its_own(sender: Any, sole: Any) -> None:
    """The name was given or taken away while tasks were on their way."""
    app = App(MemoryEngine(), **sole)
    app.engine.run(App(MemoryEngine(), **sender).send())
    assert app.kinds() == ["started", "succeeded"]


@pytest.mark.parametrize("others", [["admin"], ["admin", "stock"]])
def test_what_is_of_none_that_is_here_is_refused(
    engine: MemoryEngine, our_log: OurLog, others: list[str]
) -> None:
    apps = [App(engine, name=each) for each in others]
    names = ", ".join(map(repr, others))
    with pytest.raises(RefusedError, match=f"of the application 'shop', .* has set up {names}"):
        engine.run(App(MemoryEngine(), name="shop").send())
    assert [app.kinds() for app in apps][-1] == ["failed"]
    assert happened == []


def test_what_names_nobody_is_refused_where_there_are_several(
    engine: MemoryEngine, our_log: OurLog
) -> None:
    apps = [App(engine, name="shop"), App(engine, name="admin")]
    for payload in (App(MemoryEngine()).send(), "no JSON", "[]"):
        with pytest.raises(RefusedError):
            engine.run(payload)
    assert [app.kinds() for app in apps] == [[], ["failed"] * 3]


def test_nothing_runs_for_one_that_is_there_no_more(engine: MemoryEngine, our_log: OurLog) -> None:
    payload = App(engine).send()
    gc.collect()
    with pytest.raises(RefusedError, match="none that is still there"):
        engine.run(payload)


def test_without_an_application_the_default_one_runs_it() -> None:
    Arrivals().run(App(MemoryEngine()).send().replace(":note", ":marked"), 1)
    assert happened == [1]


def test_the_name_is_a_string() -> None:
    for wrong in ("", 1, None):
        with pytest.raises(SettingsError, match="name accepts a string that is not empty"):
            parse_settings({"name": wrong})
