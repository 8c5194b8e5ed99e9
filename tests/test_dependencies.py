"""What vbayes imports is what `pip install` brings, not what some other package happened to bring along."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OTHER_NAMES = {"sklearn": "scikit-learn", "pyro": "pyro-ppl", "arviz_stats": "arviz", "IPython": "ipython"}
"""Module → distribution that is named otherwise. ArviZ 1.x consists of arviz_stats and others, and is imported as such where it is found."""
UNSEEN = {"h5netcdf": "xarray writes netCDF with it"}
"""Distributions that no line of vbayes imports."""


def imports(tree: ast.AST, inside: bool = False) -> Iterator[tuple[str, bool]]:
    """Top-level modules that code names, and whether only when a function is called, or types are checked."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0], inside
        typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        yield from imports(node, inside or typing or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))


def distributions(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w-]", wanted)[0].lower() for wanted in requirements}


OF_EXTRAS = ROOT / "vbayes" / "staging" / "xla"
"""A room of modules that are imported when a function is called: beside its head, `load` and `__init__`, which every import of vbayes runs."""


def late(path: Path) -> bool:
    """Whether a file belongs to that room."""
    return path.is_relative_to(OF_EXTRAS) and path not in (OF_EXTRAS / "__init__.py", OF_EXTRAS / "load.py")


NEEDED = distributions(PROJECT["dependencies"])
EXTRA = set().union(*map(distributions, PROJECT["optional-dependencies"].values()))
FILES = sorted((ROOT / "vbayes").rglob("*.py"))
FOUND = {path: set(imports(ast.parse(path.read_text(encoding="utf-8")), late(path))) for path in FILES}


def undeclared(found: set[tuple[str, bool]]) -> set[str]:
    third = {(OTHER_NAMES.get(name, name), inside) for name, inside in found if name not in sys.stdlib_module_names | {"vbayes"}}  # fmt: skip
    return {name for name, inside in third if name not in NEEDED and not (inside and name in EXTRA)}


def test_every_import_is_declared():
    """An extra is enough for what a function imports when it is called."""
    missing = {str(path.relative_to(ROOT)): undeclared(found) for path, found in FOUND.items()}
    assert len(FOUND) > 100 and not {path: names for path, names in missing.items() if names}


def test_the_room_of_an_extra_is_imported_late():
    """Nothing at the head of a module leads there, but from the room itself."""
    heads = [node for path in FILES if not late(path) for node in ast.parse(path.read_text(encoding="utf-8")).body]
    there = [(node.module or "").split(".") for node in heads if isinstance(node, ast.ImportFrom)]
    assert any(late(path) for path in FILES)
    assert not [names for names in there if "xla" in names and names[-1] not in ("xla", "load")]


def test_nothing_is_declared_for_nothing():
    names = {OTHER_NAMES.get(name, name) for found in FOUND.values() for name, _ in found}
    assert NEEDED - set(UNSEEN) <= names and set(UNSEEN) <= NEEDED and not set(UNSEEN) & names


def test_what_is_missing_is_seen():
    """The mutants: a package of nobody's, and one of an extra that is imported before anybody calls for it."""
    code = "import os, numpy.linalg\nfrom . import errors\ndef f():\n    from distributed import Client\n    import tabulate"
    assert undeclared(set(imports(ast.parse(code)))) == {"tabulate"}
    assert undeclared(set(imports(ast.parse("try:\n    import distributed\nexcept ImportError:\n    pass")))) == {
        "distributed"
    }
