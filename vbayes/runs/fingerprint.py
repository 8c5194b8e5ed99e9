"""A hash of everything that the results of an experiment depend on."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .sources import installed, sources

# A new version of these may change numbers, whether or not the experiment imports them itself.
PACKAGES = ("torch", "pyro-ppl", "numpy", "scipy", "pandas", "scikit-learn")


def fingerprint(path: Path, *, files: Sequence[str] = (), **what: Any) -> str:
    """SHA-256 of an experiment's file, its imports, its declared data files, vbayes, and its settings.

    Imports are followed recursively: source files count, except for those of Python itself and of installed packages (editable packages count
    as source); installed packages count with their versions. Must be called while the experiment is loaded, when its module search path is
    known.

    Args:
        path: The experiment's file.
        files: Data files, or folders of them, relative to the experiment's folder.
        what: Settings, seeds and the like, as JSON or objects that `str` describes completely.

    Raises:
        BadInput: A data file does not exist.
    """
    digest = hashlib.sha256()
    own, home = Path(__file__).parents[1], path.parent.resolve()
    for root, found in ((home, sources(path)), (own, sorted(own.rglob("*.py"))), (home, declared(path, files))):
        for file in found:
            digest.update(f"{os.path.relpath(file, root)}\0{_hash(file)}\0".encode())
    packages = {*PACKAGES, *installed(path)}
    versions = {"python": platform.python_version(), **{name: _version(name) for name in packages}}
    digest.update(json.dumps([versions, what], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def declared(path: Path, files: Sequence[str]) -> list[Path]:
    """The data files of an experiment, including those in declared folders."""
    found: list[Path] = []
    for name in files:
        place = path.parent / name
        if not place.exists():
            raise BadInput(
                f"files names {name!r}, but {place} does not exist. Wanted: data files, relative to the experiment's folder."
            )
        found += sorted(filter(Path.is_file, place.rglob("*"))) if place.is_dir() else [place]
    return found


def _hash(file: Path) -> str:
    seen = file.stat()
    return _hash_of(file, seen.st_size, seen.st_mtime_ns)


@functools.lru_cache(maxsize=10_000)
def _hash_of(file: Path, size: int, time: int) -> str:
    """The hash of a file; cached, as a sweep computes a fingerprint for each of its tasks."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
