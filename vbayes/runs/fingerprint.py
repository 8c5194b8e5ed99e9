"""What the numbers of an experiment depend on, in one short text: where it is the same, so are they."""

from __future__ import annotations

import ast
import hashlib
import json
import platform
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "pyro-ppl", "numpy", "scipy", "pandas")  # a new version of these may bring other numbers


def fingerprint(path: Path, **what: Any) -> str:
    """SHA-256 of an experiment's file, the files it imports from beside it, vbayes, PACKAGES, and what was asked of it.

    A data file that the experiment reads is not in it.

    Args:
        path: The experiment.
        what: Settings, seeds and the like; JSON, or something whose `str` says all.
    """
    digest = hashlib.sha256()
    own = Path(__file__).parents[1]
    for root, files in ((path.parent, sources(path)), (own, sorted(own.rglob("*.py")))):
        for file in files:
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    digest.update(json.dumps([versions, what], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def sources(path: Path) -> list[Path]:
    """A Python file and the ones beside it that it imports, wherever in them the import stands; of a package, all of it."""
    found, left = {path}, [path]
    while left:
        for file in _beside(left.pop(), path.parent):
            if file not in found:
                found.add(file)
                left.append(file)
    return sorted(found)


def _beside(file: Path, root: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(file.read_bytes())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in {name.partition(".")[0] for name in names} - {"", "vbayes"}:
            yield from filter(Path.is_file, [root / f"{name}.py"])
            yield from (root / name).rglob("*.py")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
