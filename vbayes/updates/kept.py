"""Updates in saved fits: their names and settings."""

from __future__ import annotations

import dataclasses
from typing import Any

from .batch_and_match import BatchAndMatch
from .natural_gradient import NaturalGradient
from .score_matching import ScoreMatching

KINDS = {kind.__name__: kind for kind in (NaturalGradient, BatchAndMatch, ScoreMatching)}


def to_json(update: Any) -> list[Any] | None:
    """Name and settings of an update; None for anything else, such as an optimiser."""
    return [type(update).__name__, dataclasses.asdict(update)] if type(update) in KINDS.values() else None


def of_json(value: Any) -> Any:
    """The update for its name and settings.

    Raises:
        ValueError: There is no such update.
    """
    if value is None:
        return None
    name, settings = value
    if name not in KINDS or not all(type(number) in (int, float) for number in settings.values()):
        raise ValueError(f"{value!r:.80}, and wanted is an update")
    return KINDS[name](**settings)
