"""Entries of the reference, made from docstrings: `<!-- entries: training updates -->` stands for all public names that come from these rooms.

So a name that is added to `vbayes/__init__.pyi` has its entry by itself.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[2] / "vbayes"
MARK = re.compile(r"<!-- entries: (.+?) -->")
IMPORTED = re.compile(r"^from \.([\w.]*) import (\w+) as \2$", re.M)


def names(place: str) -> list[str]:
    """The public names of a room ("training"), of one module of it ("training.fit"), or of one that is public itself ("plots")."""
    found = IMPORTED.findall((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    here = [name for module, name in found if f"{module}.".startswith(f"{place}.") and name != "conjugate"]  # a module
    if here:
        return here
    inside = (PACKAGE / place / "__init__.py").read_text(encoding="utf-8")
    return [f"{place}.{name}" for _, name in IMPORTED.findall(inside)]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put mkdocstrings' directives in place of the marks."""
    return MARK.sub(lambda found: "\n".join(f"::: vbayes.{name}" for at in found[1].split() for name in names(at)), markdown)  # fmt: skip
