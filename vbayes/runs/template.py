"""A page from a template, in place of an older one only when it is whole."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import OutputUnwritable


def write_page(
    target: Path, template: str, *, filters: Mapping[str, Callable[[Any], str]] | None = None, **values: Any
) -> Path:
    """A template of this folder filled in; all text in it is escaped.

    Args:
        target: The page.
        template: File name.
        filters: Name → function of a value, for use in the template.
        values: What the template shows.

    Returns:
        The page's path.

    Raises:
        OutputUnwritable: The page can't be written; an older one is still there.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("vbayes.runs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    pages.filters |= filters or {}
    html = pages.get_template(template).render(**values)
    part = target.with_name(target.name + ".part")
    try:
        part.write_text(html, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        raise OutputUnwritable(
            f"Can't write {target}: {error}. Choose another --out, or copy the run, to a folder that is yours."
        ) from error
    return target
