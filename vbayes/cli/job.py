"""What the names of a command stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data import DATASETS
from ..data.dataset import Dataset
from ..pair.pair import Pair
from ..pairs import Recipe


@dataclass(frozen=True)
class Job:
    """A pair, its data, and how to train it: what the names of a command stand for.

    Attributes:
        pair: Model and guide.
        data: Its data set.
        recipe: How the pair is made and trained.
        settings: Of the pair, by their names.
        changed: Setting → (as it is otherwise, as it is here), of what somebody has changed.
        features: The columns of a table that are the features of a pair; none where it takes columns by their names.
    """

    pair: Pair
    data: Dataset
    recipe: Recipe
    settings: Mapping[str, Any] = field(default_factory=dict)
    changed: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    features: tuple[str, ...] = ()

    @property
    def training(self) -> dict[str, Any]:
        """Keyword arguments for `fit` and `compare`."""
        return {name: getattr(self.recipe, name) for name in ("epochs", "batch_size", "learning_rate")}


def is_file(data: str | None) -> bool:
    """Whether a data set is a table in a file, rather than one that has a name."""
    return data not in (None, "", *DATASETS) and (bool(Path(str(data)).suffix) or Path(str(data)).exists())


def digest_of(file: str) -> str:
    """The SHA-256 of a table's file, by which it is known again; nothing of what is none."""
    path = Path(file)
    if not path.is_file():
        return ""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
