"""Who may import whom: arrows point downwards only, also for type checkers and inside functions."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

import pytest

from tests.structure import cycles, foreign_private_uses

PACKAGE = Path(__file__).parents[1] / "bgadapters"
FILES = sorted(PACKAGE.rglob("*.py"))

CORE = "host", "model", "drivers", "control", "process", "app", "sending", "outbox", "api"
"""The layers of the core, from the bottom; each may import those before it."""

ADAPTERS = {"bgadapters", "bgadapters.adapters"}
GATEWAYS = {*ADAPTERS, "bgadapters.asgi", "bgadapters.asgi_types", "bgadapters.wsgi"}
SHIMS: dict[str, set[str]] = {
    "adapters": {"bgadapters.core"},
    "wsgi": ADAPTERS,
    "asgi": {
        *ADAPTERS,
        "bgadapters.asgi_frameworks",
        "bgadapters.asgi_lifespan",
        "bgadapters.asgi_types",
    },
    "asgi_frameworks": {*ADAPTERS, "quart", "starlette"},
    "asgi_lifespan": {*ADAPTERS, "bgadapters.asgi_types"},
    "asgi_types": set(),
    "fastapi": {*GATEWAYS, "fastapi", "starlette", "opentelemetry"},
    "django": {*GATEWAYS, "bgadapters.stores.command", "django", "django_tasks", "asgiref"},
    "flask": {*GATEWAYS, "flask", "werkzeug"},
    "graphql": {*ADAPTERS, "strawberry"},
    "engines": {
        *ADAPTERS,
        "bgadapters.sqlalchemy_sessions",
        "celery",
        "kombu",
        "huey",
        "procrastinate",
        "psycopg",
        "psycopg_pool",
        "redis",
        "sqlalchemy",
        "django",
        "django_tasks",
    },
    "target": {"django"},
    "sqlalchemy_sessions": {*ADAPTERS, "sqlalchemy"},
    "stores": {*ADAPTERS, "bgadapters.sqlalchemy_sessions", "bgadapters.target", "sqlalchemy"},
    "telemetry": {*ADAPTERS, "opentelemetry", "prometheus_client", "sentry_sdk"},
    "check": {"bgadapters.core", "bgadapters.target"},
    "testing": {*ADAPTERS, "bgadapters.core", "pytest", "django"},
    "__init__": {"bgadapters.core"},
    "__main__": {"bgadapters.check", "bgadapters.stores"},
}
"""What is above the core, and what each may import besides itself."""


def place_of(file: Path) -> tuple[str, ...]:
    parts = file.relative_to(PACKAGE).parts
    return tuple(part.removesuffix(".py") for part in parts)


def imports_of(file: Path) -> set[str]:
    """Every module that a file imports, wherever it does."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            names = {f"{module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if is_module(name)} or {module}
    return {
        name for name in found if name.split(".")[0] not in {*sys.stdlib_module_names, "_typeshed"}
    }


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith("bgadapters") and (path.is_dir() or path.with_suffix(".py").is_file())


def is_within(module: str, allowed: str) -> bool:
    if allowed == "bgadapters":  # its public API, not what is below
        return module == allowed
    return module == allowed or module.startswith(f"{allowed}.")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_module_imports_what_is_below_it(file: Path) -> None:
    place = place_of(file)
    if place[0] == "core":
        below = CORE[: CORE.index(place[1]) + 1] if place[1] in CORE else ()
        allowed = {f"bgadapters.core.{layer}" for layer in below}
    else:
        allowed = {*SHIMS[place[0]], f"bgadapters.{place[0]}"}
    wrong = {m for m in imports_of(file) if not any(is_within(m, each) for each in allowed)}
    assert not wrong, f"{'/'.join(place)} imports {wrong}"


def test_every_layer_is_known() -> None:
    places = {
        place_of(file)[:2] if place_of(file)[0] == "core" else place_of(file)[:1] for file in FILES
    }
    assert places == {
        ("core", "__init__"),
        *(("core", layer) for layer in CORE),
        *((s,) for s in SHIMS),
    }


def test_there_is_no_cycle() -> None:
    assert cycles() == []


def test_no_module_uses_the_private_names_of_another() -> None:
    assert [use for use in foreign_private_uses() if use.owners] == []


def test_the_core_names_no_framework_and_only_the_host_layer_names_a_server() -> None:
    servers = "uvicorn", "gunicorn", "uwsgi", "gevent", "mod_wsgi"
    found = {
        (file.relative_to(PACKAGE).as_posix(), node.value)
        for file in FILES
        if place_of(file)[:2] != ("core", "host") and place_of(file)[0] == "core"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in servers
    }
    assert found == set()


def test_only_the_host_layer_asks_what_was_imported() -> None:
    """A look into ``sys.modules`` finds what another thread is still importing, half of it."""
    asking = [
        str(file.relative_to(PACKAGE))
        for file in FILES
        if "host" not in file.parts and re.search(r'sys\.modules(\.get\(|\[)"', file.read_text())
    ]
    assert asking == ["asgi_lifespan.py"]  # where trio runs it is there


def test_only_the_guard_writes_to_the_log() -> None:
    """Handlers and filters are code of the application, and may raise."""
    writing = [
        file.relative_to(PACKAGE).as_posix()
        for file in FILES
        if re.search(r"getLogger\(|logger\.(warning|error|info|debug|log)\(", file.read_text())
    ]
    assert writing == ["core/model/guard.py"]
