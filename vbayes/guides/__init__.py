"""Guides that come by a word: each finds its place, and needs no initial values and no learning rate of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pyro.infer.autoguide import AutoGuide

from ..errors import UnknownName
from .auto import Auto as Auto
from .diagonal import Diagonal as Diagonal
from .flow import Flow as Flow
from .full import Full as Full
from .low_rank import LowRank as LowRank
from .point import Point as Point
from .whitened import Whitened as Whitened

AUTO = "auto"
GUIDES: dict[str, Any] = {
    AUTO: Auto, "point": Point, "diagonal": Diagonal, "low_rank": LowRank, "full": Full, "flow": Flow,
}  # fmt: skip
"""Word → its class."""


def guide_of(word: str, model: Callable[..., Any]) -> Any:
    """The guide that a word stands for.

    Raises:
        UnknownName: No such word.
    """
    if word not in GUIDES:
        raise UnknownName("guide", word, GUIDES)
    return GUIDES[word](model)


def word_of(guide: Any) -> str | None:
    """The word that a guide stands for; None for guides of a user's own."""
    return next((word for word, kind in GUIDES.items() if type(guide) is kind), None)


def in_words(guide: Any, tried: Sequence[tuple[str, str]] = ()) -> str:
    """What a guide is: "full-rank normal" of one by a word, the class of Pyro's; empty for a user's own.

    Args:
        guide: Called before, so that "auto" knows which it is.
        tried: As `Fit.tried` has it: what "auto" has tried beside it is said too.
    """
    if not isinstance(guide, Whitened | Point):
        return type(guide).__name__ if isinstance(guide, AutoGuide) else ""
    found = dict(tried)
    if "flow" not in found:
        return guide.words
    if isinstance(guide, Flow):
        first = Full if guide.root.dim() == 2 else LowRank
        return f"{first.words}, then an {guide.words}, which is kept"
    why = "was no better" if found["flow"] in ("good", "reweight", "bad") else found["flow"]
    return f"{guide.words}, which is kept; an {Flow.words} after it {why}"
