"""How the modules of the package hang together: who imports whom, who uses whose private names.

``python -m tests.structure`` prints the import cycles and the uses of private names.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path
from typing import NamedTuple

PACKAGE = Path(__file__).parents[1] / "bgadapters"

Graph = Mapping[str, frozenset[str]]
"""The modules that each module imports, all by their full names."""

_THIS = ("self", "cls", "mcs")
_PUBLISHED = ("_asdict", "_field_defaults", "_fields", "_make", "_replace")  # of named tuples
_BY_STRING = ("getattr", "setattr", "delattr", "hasattr", "attrgetter", "methodcaller")


class Use(NamedTuple):
    """A place where a module uses a private name that it does not define.

    Attributes:
        module: the one that uses it.
        line: where.
        name: the private name.
        owners: the modules of the package that may be meant; none if it is another package's.
    """

    module: str
    line: int
    name: str
    owners: tuple[str, ...]

    def __str__(self) -> str:
        whose = " or ".join(self.owners) or "another package"
        return f"{self.module}:{self.line}: {self.name} of {whose}"


class _Module(NamedTuple):
    name: str
    is_package: bool
    tree: ast.Module


def import_graph(package: Path = PACKAGE) -> Graph:
    """Tell which modules of a package each of its modules imports.

    Every import counts: at the top, in a function, under ``TYPE_CHECKING``, and ``import_module``
    with a name that is written out. What Python imports besides, the packages that a module is
    in, does not: every module would be in a cycle with an ``__init__`` that imports it.
    """
    modules = _modules(package)
    names = {module.name for module in modules}
    return {module.name: frozenset(_imported(module, names)) for module in modules}


def cycles(graph: Graph | None = None) -> list[frozenset[str]]:
    """Return the groups of modules that all import each other, the largest first.

    They do so directly or through others: these are the strongly connected components of more
    than one module.

    Args:
        graph: who imports whom. Default: `import_graph` of this package.
    """
    graph = import_graph() if graph is None else graph
    reached = {module: _reached(graph, module) for module in graph}
    groups = {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }
    return sorted(groups, key=lambda group: (-len(group), sorted(group)))


def foreign_private_uses(package: Path = PACKAGE) -> list[Use]:
    """Return the places where a module uses a private name that it does not define.

    A private name begins with one underscore. A module defines what it binds, assigns to an
    attribute of ``self`` or ``cls``, or lists in ``__slots__``. It uses attributes of anything
    but ``self`` and ``cls``, what it imports from a module, and strings in ``getattr`` and its
    like. The owners of a name are looked for among the modules that it imports, directly or
    through others.

    It goes by names alone. Where two modules define the same private name, it cannot tell whose
    is meant and takes it for the module's own: ruff's SLF001 sees those, and none in strings.
    """
    modules = _modules(package)
    defined = {module.name: frozenset(_defined(module.tree)) for module in modules}
    graph = import_graph(package)
    uses = []
    for module in modules:
        known = sorted(_reached(graph, module.name))
        for line, name in _used(module.tree):
            if name not in defined[module.name]:
                owners = tuple(each for each in known if name in defined[each])
                uses.append(Use(module.name, line, name, owners))
    return sorted(uses)


def _modules(package: Path) -> list[_Module]:
    found = []
    for file in sorted(package.rglob("*.py")):
        name = ".".join(file.relative_to(package.parent).with_suffix("").parts)
        is_package = file.stem == "__init__"
        tree = ast.parse(file.read_text(), filename=str(file))
        found.append(_Module(name.removesuffix(".__init__"), is_package, tree))
    return found


def _imported(module: _Module, names: Container[str]) -> Iterator[str]:
    """The modules of ``names`` that a module imports, except itself."""
    for node in ast.walk(module.tree):
        for name in _targets(module, node):
            parts = name.split(".")
            prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
            found = next((prefix for prefix in prefixes if prefix in names), None)
            if found is not None and found != module.name:
                yield found


def _targets(module: _Module, node: ast.AST) -> Iterator[str]:
    """What a node imports: modules, or names in modules, which may be modules themselves."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parent = module.name if module.is_package else module.name.rpartition(".")[0]
        source = resolve_name("." * node.level + (node.module or ""), parent)
        yield from (f"{source}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and _name_of(node.func) == "import_module":
        yield from _strings(node)


def _reached(graph: Graph, start: str) -> set[str]:
    """The modules that are imported by one, or by what it imports; itself if it is in a circle."""
    reached: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        module = ahead.pop()
        if module not in reached:
            reached.add(module)
            ahead += graph[module]
    return reached


def _defined(tree: ast.Module) -> Iterator[str]:
    """The private names that a module defines, at any depth."""
    names: list[str] = []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.append(name)
            case ast.ClassDef(name=name) | ast.alias(asname=str(name)):
                names.append(name)
            case ast.Assign(targets=[ast.Name(id="__slots__")]):
                names += _strings(node.value)
            case ast.Name(id=name, ctx=ast.Store()):
                names.append(name)
            case ast.Attribute(attr=name, ctx=ast.Store()) if _is_this(node.value):
                names.append(name)
            case _:
                pass
    return filter(_is_private, names)


def _used(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The private names that a module may have from elsewhere, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and not _is_this(node.value):
            found = [(node.lineno, node.attr)]
        elif isinstance(node, ast.ImportFrom):
            found = [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and _name_of(node.func) in _BY_STRING:
            found = [(node.lineno, name) for name in _strings(node)]
        else:
            continue
        yield from (use for use in found if _is_private(use[1]))


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and name not in _PUBLISHED


def _is_this(node: ast.AST) -> bool:
    """Whether an expression is ``self``, ``cls``, ``super()`` or ``type(self)``."""
    if isinstance(node, ast.Call) and _name_of(node.func) in {"super", "type"}:
        return all(map(_is_this, node.args))
    return isinstance(node, ast.Name) and node.id in _THIS


def _name_of(node: ast.expr) -> str:
    """The last part of a dotted name; empty for any other expression."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _strings(node: ast.AST) -> list[str]:
    """The strings that are written out in an expression."""
    constants = (each for each in ast.walk(node) if isinstance(each, ast.Constant))
    return [each.value for each in constants if isinstance(each.value, str)]


def main() -> None:
    """Print the cycles and the uses, and how many there are."""
    groups, uses = cycles(), foreign_private_uses()
    for group in groups:
        print(f"{len(group)} modules import each other: {', '.join(sorted(group))}")
    for use in uses:
        print(use)
    ours = [use for use in uses if use.owners]
    print(f"modules: {len(import_graph())}")
    print(f"import cycles: {len(groups)}, the largest of {max(map(len, groups), default=0)}")
    print(f"uses of another module's private names: {len(ours)}, of {_counted(ours)}")
    others = [use for use in uses if not use.owners]
    print(f"uses of another package's private names: {len(others)}, of {_counted(others)}")


def _counted(uses: list[Use]) -> str:
    """The names, each with the number of its uses, the most used first."""
    names = Counter(use.name for use in uses)
    return ", ".join(f"{name} {count}" for name, count in names.most_common()) or "none"


if __name__ == "__main__":
    main()
