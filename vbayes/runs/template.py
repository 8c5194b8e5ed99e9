"""A page from a template, in place of an older one only when it is whole."""

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
    """A template of this folder filled in; all text in it is escaped.

    Args:
        target: The page.
        template: File name.
        values: What the template shows.

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
        regular_file.write(target, html.encode("utf-8", "replace"))  # a file's name may be no text
    except OSError as error:
        raise OutputUnwritable(
            f"Can't write {target}: {error}. Choose another --out, or copy the run, to a writable folder."
        ) from error
    return target


def words(text: str) -> Any:
    """A text for a page, in which what stands in backticks is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def link(name: str) -> str:
    """A file's name as the target of a link: a colon would make the word before it a scheme, as in `javascript:`."""
    return quote(os.fsencode(name), safe="")
