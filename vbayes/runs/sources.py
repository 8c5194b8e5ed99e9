"""The source files of an experiment: its imports, recursively, except for installed packages."""

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

OWN = "vbayes"  # part of every fingerprint anyway


def sources(path: Path) -> list[Path]:
    """A Python file and all files that it imports, recursively, wherever the import statement is; for a package, all of its files.

    Files of Python itself and of installed packages are left out, except for editable packages. Modules are searched for beside the
    file and on Python's current search path; for a loaded file, its objects are followed too, since an import may not be
    a statement.
    """
    return sorted(_walk(path)[0])


def installed(path: Path) -> set[str]:
    """The installed distributions that these files import."""
    return {one for name in _walk(path)[1] for one in _distributions().get(name, ())}


def theirs(before: Iterable[str]) -> dict[str, Path]:
    """Name → file, for modules loaded since `before` that belong neither to Python nor to an installed package.

    Editable packages are left out too, because what they have registered with torch can't be registered twice.
    """
    new = set(sys.modules) - set(before)
    found = {module.__name__: file for file, module in _loaded().items() if module.__name__ in new}
    editable = _distributions() if found else {}
    return {name: file for name, file in found.items() if name.partition(".")[0] not in editable}


def _walk(path: Path) -> tuple[set[Path], set[str]]:
    """The files, and the top-level names of installed packages."""
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
    """Top-level names that a file imports by statement, except for its own package, all of which is included anyway."""
    names: list[str] = []
    if file.suffix == ".py":
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # a file of a package that may never be imported
            return frozenset()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module or "")
    return frozenset({name.partition(".")[0] for name in names} - {""})


def _held(module: ModuleType | None) -> set[str]:
    """Top-level names of the modules whose objects a loaded module holds, such as those imported by `importlib`."""
    names: set[str] = set()
    for value in [] if module is None else list(vars(module).values()):
        if isinstance(value, ModuleType):
            names.add(value.__name__.partition(".")[0])
        elif isinstance(value, (type, FunctionType)) and value.__module__:
            names.add(value.__module__.partition(".")[0])
    return names - {"__main__", module.__name__.partition(".")[0] if module else ""}


def _loaded() -> dict[Path, ModuleType]:
    """File → module, for loaded modules that belong neither to Python, nor to an installed package, nor to vbayes."""
    files = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    return {
        Path(os.path.realpath(file)): sys.modules[name]
        for name, file in files.items()
        if isinstance(file, str) and name.partition(".")[0] not in (OWN, "__main__") and not _is_installed(file)
    }


def _of(name: str, home: Path) -> set[Path] | None:
    """The files of the module or package with this name; None if it is installed, empty if it does not exist."""
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
    """Whether a file or folder belongs to an installed package or to Python itself."""
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
