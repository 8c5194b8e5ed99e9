"""A page with links to every run in a folder. It computes nothing: it only reads files."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from . import regular_file
from .json_files import read_json_or_nothing
from .report import described
from .shapes import is_number
from .template import write_page

ANSWER = re.compile(r"[^:,(]{1,39}(?=[:,]| \()")  # the first words of a verdict, its answer


def index(folder: Path) -> Path:
    """Writes `index.html` beside run folders, with question, verdict and date of each. Folders that are links are left out.

    Args:
        folder: The folder that contains them.

    Returns:
        Path of the page.

    Raises:
        OutputUnwritable: The page can't be written; an older one is left as it was.
    """
    pages = [page for page in sorted(folder.glob("*/report.html")) if not page.parent.is_symlink()]
    runs = [summary(page.parent) for page in pages if regular_file.is_regular(page)]
    return write_page(folder / "index.html", "index.html.j2", runs=runs)


def summary(folder: Path) -> dict[str, Any]:
    """A short summary of a run folder; entries of damaged files are empty."""
    config, results, where, comparison, diagnosis = (
        read_json_or_nothing(folder / f"{name}.json")
        for name in ("config", "results", "environment", "comparison", "diagnosis")
    )
    verdicts = (_text(told, "verdict") for told in (results, comparison, diagnosis))
    seconds = where.get("seconds")
    verdict = next(filter(None, verdicts), "") or _text(config, "failed")
    return {
        "name": folder.name,
        "question": _text(results, "question") or f"{_text(config, 'pair')} on {_text(config, 'data')}",
        "claim": _text(results, "claim"),
        "verdict": verdict,
        "answer": found.group() if (found := ANSWER.match(verdict)) else "",
        "picture": _picture(folder),
        "date": _text(where, "date"),
        "seconds": seconds if isinstance(seconds, (int, float)) and is_number(seconds) else None,
    }


def _picture(folder: Path) -> dict[str, Any] | None:
    """The most informative figure of a run; the first by name if none is in the list of preferences."""
    found = [path for path in sorted(folder.glob("*.png")) if regular_file.is_regular(path)]
    ranks = {
        name: rank for rank, name in enumerate(("figure.png", "comparison.png", "reconstructions.png", "diagnosis.png"))
    }
    best = min(found, key=lambda path: ranks.get(path.name, len(ranks)), default=None)
    return None if best is None else described(best, regular_file.read(best))


def _text(told: dict[str, Any], name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""
