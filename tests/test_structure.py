"""What the tests of the package's structure go by."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.structure import cycles, foreign_private_uses, import_graph


@pytest.mark.parametrize(
    "statement",
    [
        "import package.b",
        "import package.b as other",
        "from package import b",
        "from package.b import name",
        "from .b import name",
        "from . import b",
        "if TYPE_CHECKING:\n    from package.b import name",
        "def function():\n    from package.b import name",
        "importlib.import_module('package.b')",
    ],
)
def test_every_kind_of_import_is_seen(tmp_path: Path, statement: str) -> None:
    package = written(tmp_path, a=statement, b="")
    assert import_graph(package)["package.a"] == {"package.b"}


def test_an_import_from_a_package_is_one_of_its_init(tmp_path: Path) -> None:
    package = written(tmp_path, a="from package import name", b="import json")
    graph = import_graph(package)
    assert graph == {"package": set(), "package.a": {"package"}, "package.b": set()}


def test_a_relative_import_in_an_init_begins_at_its_package(tmp_path: Path) -> None:
    package = written(tmp_path, __init__="from .a import name", a="")
    assert import_graph(package)["package"] == {"package.a"}


def test_a_cycle_is_found_through_others_and_what_leads_to_it_is_not_in_it() -> None:
    graph = {
        "a": frozenset({"b"}),
        "b": frozenset({"c"}),
        "c": frozenset({"a", "d"}),
        "d": frozenset({"e"}),
        "e": frozenset({"d"}),
        "top": frozenset({"a"}),
        "bottom": frozenset[str](),
    }
    assert cycles(graph) == [{"a", "b", "c"}, {"d", "e"}]


@pytest.mark.parametrize(
    "statement",
    [
        "thing._private",
        "thing._private = 1",
        "getattr(thing, '_private')",
        "from package.b import _private",
        "class Mine:\n    def use(self): return self.thing._private",
    ],
)
@pytest.mark.parametrize(
    "definition",
    [
        "_private = 1",
        "def _private(): ...",
        "class _private: ...",
        "import json as _private",
        "class B:\n    def __init__(self): self._private = 1",
        "class B:\n    __slots__ = ('_private',)",
        "class B:\n    _private: int",
    ],
)
def test_a_private_name_of_another_module_is_found(
    tmp_path: Path, definition: str, statement: str
) -> None:
    package = written(tmp_path, a=f"import package.b\n{statement}", b=definition)
    (use,) = foreign_private_uses(package)
    assert (use.module, use.name, use.owners) == ("package.a", "_private", ("package.b",))


@pytest.mark.parametrize(
    "statement",
    [
        "thing._private\n_private = 1",
        "class Mine(b.B):\n    def use(self): return self._private, super()._private",
        "thing.public, thing.__dict__, thing.keyword_",
        "thing._replace(name=1)",
        "_, last = thing",
    ],
)
def test_what_is_a_module_s_own_inherited_or_published_is_no_foreign_use(
    tmp_path: Path, statement: str
) -> None:
    package = written(tmp_path, a=f"import package.b\n{statement}", b="_private = _replace = 1")
    assert foreign_private_uses(package) == []


def test_what_no_imported_module_defines_is_another_package_s(tmp_path: Path) -> None:
    package = written(tmp_path, a="import sys\nsys._private", b="_private = 1")
    (use,) = foreign_private_uses(package)
    assert use.owners == ()


def written(folder: Path, **modules: str) -> Path:
    """A package of these modules, and an ``__init__``."""
    package = folder / "package"
    package.mkdir()
    for name, source in {"__init__": "", **modules}.items():
        (package / f"{name}.py").write_text(dedent(source))
    return package
