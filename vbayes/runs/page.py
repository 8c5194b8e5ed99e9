"""A self-contained page with the runs of a folder of experiments: question, claim, figure, verdict. It computes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .index import summary
from .report import pictures
from .template import write_page


def page(target: Path, runs: Sequence[Path], *, title: str) -> Path:
    """Writes the page.

    Args:
        target: Path of the page.
        runs: Run folders, in the order of the page; missing ones are left out.
        title: Title of the page.

    Raises:
        OutputUnwritable: The page can't be written; an older one is left as it was.
    """
    found = [summary(run) | {"figures": pictures(run), "folder": run.name} for run in runs if run.is_dir()]
    return write_page(target, "page.html.j2", title=title, runs=found)
