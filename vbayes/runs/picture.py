"""Figures as PNG files with descriptions of what they show, and how to show them on a dark page."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .run_folder import whole

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SHOWS, PAPER = "Description", "Comment"
KEEPS = "keep the colours"
"""The comment of a figure that contains pictures, which must not be inverted on a dark page."""


def save_figure(figure: Any, path: Path) -> None:
    """Saves a figure to a file, and closes it."""
    from matplotlib import pyplot

    told = {SHOWS: described(figure)} | ({PAPER: KEEPS} if _has_pictures(figure) else {})
    metadata = {"metadata": told} if path.suffix == ".png" else {}
    try:
        with whole(path) as part:
            figure.savefig(part, dpi=150, format=path.suffix[1:], **metadata)
    finally:
        pyplot.close(figure)


def described(figure: Any) -> str:
    """A description from the labels of the axes, "variance (nats²) against particles K; …", or from the panels' titles if there are no labels."""
    axes = [f"{ax.get_ylabel()} against {ax.get_xlabel()}" for ax in figure.axes if ax.get_ylabel() and ax.get_xlabel()]
    titles = [ax.get_title(loc="left") or ax.get_title() or ax.get_ylabel() or ax.get_xlabel() for ax in figure.axes]
    found = "; ".join(dict.fromkeys(" ".join(words.split()) for words in axes or titles if words))
    return found[:1].upper() + found[1:]


def told(content: bytes) -> dict[str, str]:
    """The text entries of a PNG file: keyword → text; empty for any other file."""
    return dict(_texts(content))


def _texts(content: bytes) -> Iterator[tuple[str, str]]:
    """References: W3C, Portable Network Graphics specification, sections 5.3 (chunks) and 11.3.3 (text)."""
    place = len(SIGNATURE)
    while content.startswith(SIGNATURE) and place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        chunk = content[place + 8 : place + 8 + length]
        keyword, _, rest = chunk.partition(b"\0")
        if kind == b"tEXt":
            yield keyword.decode("latin-1"), rest.decode("latin-1")
        elif kind == b"iTXt" and rest[:1] == b"\0":  # uncompressed
            yield keyword.decode("latin-1"), rest[2:].split(b"\0", 2)[-1].decode("utf-8", "replace")
        elif kind == b"IDAT":
            return
        place += length + 12


def _has_pictures(figure: Any) -> bool:
    from matplotlib.collections import QuadMesh

    return any(ax.images or any(isinstance(part, QuadMesh) for part in ax.collections) for ax in figure.axes)
