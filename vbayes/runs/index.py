"""A page that leads to every run in a folder. It computes nothing: it reads files and lays them out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..errors import OutputUnwritable


def index(folder: Path) -> Path:
    """Writes `index.html` beside run folders: what each asks, what came out, when.

    Args:
        folder: What holds them.

    Returns:
        The page's path.

    Raises:
        OutputUnwritable: The page can't be written; an older one is still there.
    """
    runs = [summary(page.parent) for page in sorted(folder.glob("*/report.html"))]
    return write_page(folder / "index.html", "index.html.j2", runs=runs)


def write_page(target: Path, template: str, **values: Any) -> Path:
    """A template filled in, in place of an older page only when it is whole.

    Raises:
        OutputUnwritable: The page can't be written; an older one is still there.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("vbayes.runs"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(pages.get_template(template).render(**values), encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        raise OutputUnwritable(
            f"Can't write {target}: {error}. Choose another --out, in a folder that is yours."
        ) from error
    return target


def summary(folder: Path) -> dict[str, Any]:
    """What a run folder says of itself in a few words."""
    config, results, where, comparison = (
        _read(folder / f"{name}.json") for name in ("config", "results", "environment", "comparison")
    )
    return {
        "name": folder.name,
        "question": results.get("question") or f"{config.get('pair', '')} on {config.get('data', '')}",
        "claim": results.get("claim", ""),
        "verdict": results.get("verdict") or comparison.get("verdict", ""),
        "date": where.get("date", ""),
        "seconds": where.get("seconds"),
    }


def _read(path: Path) -> dict[str, Any]:
    """A file of a run; empty for a missing or damaged one, which takes nothing from the others."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
