"""The runs of a folder of experiments on one page that needs no other file: question, claim, picture, verdict. It computes nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import OutputUnwritable
from .index import summary
from .report import pictures


def page(target: Path, runs: Sequence[Path], *, title: str) -> Path:
    """Writes it.

    Args:
        target: The page.
        runs: Run folders, in the order of the page; one that is missing is left out.
        title: Of the page.

    Raises:
        OutputUnwritable: The page can't be written; an older one is still there.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("vbayes"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    found = [summary(run) | {"figures": pictures(run), "folder": run.name} for run in runs if run.is_dir()]
    part = target.with_name(target.name + ".part")
    try:
        text = pages.get_template("page.html.j2").render(title=title, runs=found)
        part.write_text(text, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        raise OutputUnwritable(
            f"Can't write {target}: {error}. Choose another --out, in a folder that is yours."
        ) from error
    return target
