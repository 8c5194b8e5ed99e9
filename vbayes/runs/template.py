"""Writes pages from templates; an older page is replaced only when the new one is complete."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import OutputUnwritable
from . import regular_file
from .numbers import plain, short


def write_page(target: Path, template: str, **values: Any) -> Path:
    """Fills in a template and writes the page; all text is escaped.

    Args:
        target: Path of the page.
        template: File name of the template.
        values: Values for the template.

    Returns:
        The page's path.

    Raises:
        OutputUnwritable: The page can't be written; an older one is left as it was.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("vbayes.runs"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # fmt: skip
    pages.filters |= {"link": link, "plain": plain, "short": short, "words": words}
    html = pages.get_template(template).render(**values)
    try:
        regular_file.write(target, html.encode("utf-8", "replace"))  # a file name may not be valid text
    except OSError as error:
        raise OutputUnwritable(
            f"Can't write {target}: {error}. Choose another --out, or copy the run, to a writable folder."
        ) from error
    return target


def words(text: str) -> Any:
    """A text for a page, with text in backticks as code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def link(name: str) -> str:
    """A file name as the target of a link, with colons quoted, as a word before a colon would be a scheme, as in `javascript:`."""
    return quote(os.fsencode(name), safe="")
