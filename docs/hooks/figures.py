"""A figure is a link to itself: a phone shows it small, and in full after a touch."""

from __future__ import annotations

import re
from typing import Any

FIGURE = re.compile(r'<p>(<img [^>]*?src="([^"]+)"[^>]*>)</p>')


def on_page_content(content: str, **_: Any) -> str:
    """Wrap each figure that is a paragraph."""
    return FIGURE.sub(r'<p><a href="\2">\1</a></p>', content)
