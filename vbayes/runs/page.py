"""The runs of a folder of experiments on one page that needs no other file: question, claim, picture, verdict. It computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .index import summary
from .report import pictures
from .template import write_page


def page(target: Path, runs: Sequence[Path], *, title: str) -> Path:
    """Writes it.

    Args:
        target: The page.
        runs: Run folders, in the order of the page; one that is missing is left out.
        title: Of the page.

    Raises:
        OutputUnwritable: The page can't be written; an older one is left as it was.
    """
    found = [summary(run) | {"figures": pictures(run), "folder": run.name} for run in runs if run.is_dir()]
    return write_page(target, "page.html.j2", title=title, runs=found)
