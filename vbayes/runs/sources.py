"""The files that an experiment is made of: what it imports, and what that imports in turn, unless it is installed."""

from __future__ import annotations

import ast
import functools
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import FunctionType, ModuleType

OWN = "vbayes"  # whose files are in every fingerprint


def sources(path: Path) -> list[Path]:
    """A Python file and the ones that it imports, wherever in them the import stands; of a package, all of it.

    Neither those of Python itself nor those of an installed package, but for one that is installed editable. Modules are looked for beside the
    file and where Python looks now; those of a file that is loaded are followed from object to object too, for an import may have
    no statement.
    """
    return sorted(_walk(path)[0])


def installed(path: Path) -> set[str]:
    """The installed distributions that those files import."""
    return {one for name in _walk(path)[1] for one in _distributions().get(name, ())}


def theirs(before: Iterable[str]) -> dict[str, Path]:
    """Name → file of the modules loaded since `before` that are neither Python's nor an installed package's.

    Those of packages that are installed editable are left out: what such a one has told torch when it was loaded can't be told twice.
    """
    new = set(sys.modules) - set(before)
    found = {module.__name__: file for file, module in _loaded().items() if module.__name__ in new}
    editable = _distributions() if found else {}
    return {name: file for name, file in found.items() if name.partition(".")[0] not in editable}


def _walk(path: Path) -> tuple[set[Path], set[str]]:
    """Files, and the first names of what is installed."""
    path = path.parent.resolve() / path.name
    loaded, others = _loaded(), set()
    found, left = {path}, [path]
    while left:
        file = left.pop()
        for name in (_imported(file) | _held(loaded.get(file))) - {OWN}:
            if (here := _of(name, path.parent)) is None:
                others.add(name)
            for one in (here or set()) - found:
                found.add(one)
                left.append(one)
    return found, others


def _imported(file: Path) -> frozenset[str]:
    seen = file.stat()
    return _imported_by(file, seen.st_size, seen.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _imported_by(file: Path, size: int, time: int) -> frozenset[str]:
    """First names of what a file imports by statement; of its own package all is looked at anyway."""
    names: list[str] = []
    if file.suffix == ".py":
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # some file of a package, which nobody has to import
            return frozenset()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
    return frozenset({name.partition(".")[0] for name in names} - {""})


def _held(module: ModuleType | None) -> set[str]:
    """First names of the modules whose objects a loaded one has: what came by `importlib`."""
    names: set[str] = set()
    for value in [] if module is None else list(vars(module).values()):
        if isinstance(value, ModuleType):
            names.add(value.__name__.partition(".")[0])
        elif isinstance(value, (type, FunctionType)) and value.__module__:
            names.add(value.__module__.partition(".")[0])
    return names - {"__main__", module.__name__.partition(".")[0] if module else ""}


def _loaded() -> dict[Path, ModuleType]:
    """File → module, of the modules that are loaded and lie neither with Python, nor with what is installed, nor in vbayes."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {
        Path(os.path.realpath(file)): sys.modules[name]
        for name, file in files.items()
        if isinstance(file, str) and name.partition(".")[0] not in (OWN, "__main__") and not _is_installed(file)
    }


def _of(name: str, home: Path) -> set[Path] | None:
    """The files of a module or package by that name; None for one that is installed, nothing for one that there is not."""
    beside = [home / f"{name}.py", *(home / name).rglob("*.py")]
    if found := set(filter(Path.is_file, beside)):
        return found
    if name in sys.stdlib_module_names:
        return set()
    spec = getattr(sys.modules.get(name), "__spec__", None)
    for finder in sys.meta_path:
        spec = spec or finder.find_spec(name, None, None)
    return set() if spec is None else _spec_files(spec)


def _spec_files(spec: ModuleSpec) -> set[Path] | None:
    folders = list(spec.submodule_search_locations or ())
    places = [spec.origin] if spec.has_location and spec.origin else []
    kept = [Path(place).resolve() for place in (*folders, *places) if not _is_installed(place)]
    if not kept:
        return None if folders or places else set()
    parts = [
        file for place in kept if place.is_dir() for kind in ("*.py", "*.so", "*.pyd") for file in place.rglob(kind)
    ]
    return {file for file in (*parts, *kept) if file.is_file()}


def _is_installed(place: str) -> bool:
    """Whether a file or folder lies where packages are installed, or where Python itself does."""
    return place.startswith(_roots()) or os.path.realpath(place).startswith(_roots())


@functools.cache
def _roots() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    names = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    names += [*getattr(site, "getsitepackages", list)(), site.getusersitepackages()]
    return tuple({form(name) + os.sep for name in names for form in (os.path.abspath, os.path.realpath)})


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()
