"""Who may import whom: shims -> wsgi, asgi -> core <- check, testing; never the other way."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bgadapters"
FILES = sorted(PACKAGE.rglob("*.py"))
GATEWAYS = {"bgadapters.core", "bgadapters.wsgi", "bgadapters.asgi", "bgadapters"}
MAY_IMPORT = {
    "__init__": {"bgadapters.core"},
    "core": {"bgadapters.core"},
    "wsgi": {"bgadapters.core"},
    "asgi": {"bgadapters.core", "bgadapters.asgi_frameworks"},
    "asgi_frameworks": {"bgadapters.core", "quart"},
    "fastapi": {*GATEWAYS, "bgadapters.fastapi", "fastapi", "starlette"},
    "django": {*GATEWAYS, "bgadapters.django", "django", "django_tasks", "asgiref"},
    "flask": {*GATEWAYS, "bgadapters.flask", "flask"},
    "check": {"bgadapters.core", "bgadapters.check", "django"},
    "testing": {"bgadapters.core", "bgadapters.testing", "pytest"},
    "__main__": {"bgadapters.check"},
}


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> set[str]:
    """The modules that a file imports, save those that type checkers alone see."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            found.add(node.module or "")
        else:
            found |= imports(node)
    return found


def top(module: str) -> str:
    """The room of a module of ours, the package of another's."""
    parts = module.split(".")
    return ".".join(parts[: 2 if parts[0] == "bgadapters" else 1])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(PACKAGE).as_posix())
def test_a_room_imports_what_it_may_and_nothing_else(file: Path) -> None:
    imported = {top(module) for module in imports(ast.parse(file.read_text()))}
    foreign = {name for name in imported if name not in sys.stdlib_module_names}
    assert foreign <= MAY_IMPORT[room_of(file)], f"{file.name} imports {foreign}"


def test_every_room_is_known() -> None:
    assert {room_of(file) for file in FILES} == set(MAY_IMPORT)
