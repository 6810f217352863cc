"""Importing costs little, what is not used starts nothing, what has run is not kept."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

import pytest

import bgadapters
from bgadapters import BackgroundTasks, drain
from tests.core.ways import lines_of

CHECK = "bgadapters.check bgadapters.core.api.probe argparse"
HEAVY = "fastapi starlette django flask werkzeug asgiref anyio asyncio concurrent.futures.thread"


def test_importing_imports_no_framework_and_no_event_loop() -> None:
    script = f"""
    import sys
    import bgadapters
    print([name for name in {HEAVY.split()} if name in sys.modules])
    bgadapters.BackgroundTasks()
    print([name for name in {CHECK.split()} if name in sys.modules])
    """
    assert lines_of(script) == ["[]", "[]"]


def test_what_a_view_needs_imports_nothing_that_runs_tasks() -> None:
    script = """
    import sys
    import bgadapters
    layers = ["host", "drivers", "control", "process", "app", "outbox"]
    print([name for name in layers if f"bgadapters.core.{name}" in sys.modules])
    print([name for name in ["logging", "threading"] if name in sys.modules])
    print([name for name in bgadapters.__all__ if not hasattr(bgadapters, name)])
    print(bgadapters.drain())
    """
    assert lines_of(script) == ["[]", "[]", "[]", "[]"]


def test_a_name_that_the_package_does_not_have_is_named() -> None:
    with pytest.raises(AttributeError, match=r"'bgadapters' has no attribute 'add_tasks'"):
        _ = bgadapters.add_tasks  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    "module", ["fastapi", "django", "flask", "wsgi", "asgi"], ids=lambda name: str(name)
)
def test_importing_a_shim_starts_nothing(module: str) -> None:
    script = f"""
    import sys, threading
    import bgadapters.{module}
    from bgadapters import BackgroundTasks
    from bgadapters.core.process import shutdown
    with BackgroundTasks(): pass
    print(threading.active_count(), len(shutdown._applications), shutdown._is_hooked)
    """
    assert lines_of(script) == ["1 0 False"]


def test_without_a_durable_task_nothing_of_it_is_imported() -> None:
    script = """
    import sys
    import bgadapters.adapters, bgadapters.asgi, bgadapters.wsgi
    from bgadapters.adapters import Runtime, start_serving
    runtime = Runtime()
    start_serving(runtime)
    with bgadapters.BackgroundTasks(runtime=runtime) as tasks:
        tasks.options(retries=1).add_task(print, "ran")
    bgadapters.drain()
    print([name for name in sys.modules if "outbox" in name or "keeping" in name])
    print(bgadapters.adapters.Store.__name__)
    """
    assert lines_of(script) == ["ran", "[]", "Store"]


def test_the_plugin_imports_no_framework_and_no_event_loop() -> None:
    """It is imported by each run of pytest, whether or not its tests have tasks."""
    script = f"""
    import sys
    import pytest
    before = set(sys.modules)
    import bgadapters.testing.plugin
    new = set(sys.modules) - before
    print([name for name in {HEAVY.split()} if name in new])
    print([name for name in new if name.partition(".")[0] not in {{
        "bgadapters", *sys.stdlib_module_names}}])
    """
    assert lines_of(script) == ["[]", "[]"]


class Argument:
    """Something that a task is given."""


@pytest.mark.parametrize("is_async", [False, True])
def test_nothing_is_kept_after_it_has_run(is_async: bool) -> None:
    async def atask(_: Argument) -> None:
        await asyncio.sleep(0)

    def task(_: Argument) -> None: ...

    func: Callable[[Argument], object] = atask if is_async else task
    gone: list[str] = []

    def add() -> None:
        argument = Argument()
        weakref.finalize(argument, gone.append, "gone")
        with BackgroundTasks() as tasks:
            tasks.add_task(func, argument)

    add()
    assert drain() == []
    assert gone == ["gone"]


def test_a_discarded_task_is_not_kept_either() -> None:
    argument = Argument()
    alive = weakref.ref(argument)
    queue = BackgroundTasks()
    queue.add_task(print, argument)
    del argument
    queue.close(KeyError())
    assert alive() is None
