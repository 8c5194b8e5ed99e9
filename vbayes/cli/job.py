"""What the names of a command stand for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..data.dataset import Dataset
from ..pair.pair import Pair
from ..pairs import Recipe


@dataclass(frozen=True)
class Job:
    """A pair, its data, and how to train it: what the names of a command stand for."""

    pair: Pair
    data: Dataset
    recipe: Recipe

    @property
    def training(self) -> dict[str, Any]:
        """Keyword arguments for `fit` and `compare`."""
        return {name: getattr(self.recipe, name) for name in ("epochs", "batch_size", "learning_rate")}
