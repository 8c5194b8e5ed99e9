"""Guides that can be chosen by name. Each finds its own start, and needs neither initial values nor a tuned learning rate."""

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
"""Name → class."""


def guide_of(word: str, model: Callable[..., Any]) -> Any:
    """Makes the guide with a given name.

    Raises:
        UnknownName: There is no guide with this name.
    """
    if word not in GUIDES:
        raise UnknownName("guide", word, GUIDES)
    return GUIDES[word](model)


def word_of(guide: Any) -> str | None:
    """The name of a guide; None for user-defined guides."""
    return next((word for word, kind in GUIDES.items() if type(guide) is kind), None)


def in_words(guide: Any, tried: Sequence[tuple[str, str]] = ()) -> str:
    """Describes a guide: "full-rank normal" for one chosen by name, the class for one of Pyro's; empty for a user-defined one.

    Args:
        guide: A guide that has been called, so that "auto" is determined.
        tried: As in `Fit.tried`: the other guides that "auto" tried are mentioned too.
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
