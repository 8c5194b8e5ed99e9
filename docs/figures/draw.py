"""Draws the figures of gallery.md again, by the code that stands above each: `python docs/figures/draw.py`."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib

FIGURES = Path(__file__).parent


def draw(into: Path = FIGURES) -> list[Path]:
    """The files that were written."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    page = (FIGURES.parent / "gallery.md").read_text(encoding="utf-8")
    scope: dict = {}
    written = []
    for code, name in re.findall(r"^```python\n(.*?)^```\n\n!\[.*?\]\(figures/(\S+)\)$", page, re.S | re.M):
        exec(compile(code, f"gallery.md, {name}", "exec"), scope)
        pyplot.gcf().savefig(into / name, dpi=110, bbox_inches="tight")
        written.append(into / name)
        pyplot.close("all")
    return written


if __name__ == "__main__":
    print(*draw(), sep="\n")
