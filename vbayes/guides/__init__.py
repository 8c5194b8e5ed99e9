"""Guides that come by a word: each finds its place, and needs no initial values and no learning rate of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UnknownName
from .diagonal import Diagonal as Diagonal
from .flow import Flow as Flow
from .full import Full as Full
from .low_rank import LowRank as LowRank
from .point import Point as Point
from .whitened import Whitened as Whitened

GUIDES: dict[str, Any] = {"point": Point, "diagonal": Diagonal, "low_rank": LowRank, "full": Full, "flow": Flow}
"""Word → its class."""
AUTO = "auto"


def guide_of(word: str, model: Callable[..., Any]) -> Any:
    """The guide that a word stands for; "auto" starts as "full", and `vb.fit` goes on from there.

    Raises:
        UnknownName: No such word.
    """
    if word != AUTO and word not in GUIDES:
        raise UnknownName("guide", word, [AUTO, *GUIDES])
    return GUIDES["full" if word == AUTO else word](model)


def word_of(guide: Any) -> str | None:
    """The word that a guide stands for; None for guides of a user's own."""
    return next((word for word, kind in GUIDES.items() if type(guide) is kind), None)
