"""Bare: the core and the gateways work, no framework is there, each shim says what it misses."""

import asyncio
import importlib.metadata
import importlib.resources
import os
import tempfile

import bgadapters
import bgadapters.asgi  # pyright: ignore[reportUnusedImport]
import bgadapters.wsgi  # pyright: ignore[reportUnusedImport]

for framework in ("fastapi", "django", "flask"):
    told: ModuleNotFoundError | None = None
    try:
        importlib.import_module(f"bgadapters.{framework}")
    except ModuleNotFoundError as missing:
        told = missing
    assert told is not None, framework
    assert told.name in {framework, "asgiref"}, f"{framework}: {told.name}"
    assert f"pip install 'bgadapters[{framework}]'" in str(told), told

ran: list[str] = []


async def task(name: str) -> None:
    ran.append(name)


with bgadapters.BackgroundTasks() as tasks:
    tasks.add_task(ran.append, "sync")
    tasks.add_task(task, "async")
assert bgadapters.drain(10) == []


async def main() -> None:
    async with bgadapters.BackgroundTasks():
        bgadapters.add_task(task, "on a loop")


asyncio.run(main())
assert ran == ["sync", "async", "on a loop"], ran

with tempfile.TemporaryDirectory() as directory:
    with bgadapters.BackgroundTasks() as tasks:
        tasks.options(engine="process").add_task(os.makedirs, f"{directory}/made/elsewhere")
    assert bgadapters.drain(30) == []
    assert os.path.isdir(f"{directory}/made/elsewhere")

assert importlib.resources.files("bgadapters").joinpath("py.typed").is_file()
assert importlib.metadata.version("bgadapters") == bgadapters.__version__
assert not [r for r in importlib.metadata.requires("bgadapters") or [] if "extra ==" not in r]
