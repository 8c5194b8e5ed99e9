"""The pair, data and settings that a command works with."""

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
    """A pair, its data, and how to train it, as found from the names on the command line.

    Attributes:
        pair: Model and guide.
        data: Its data set.
        recipe: How the pair is made and trained.
        settings: Settings of the pair, by name.
        changed: Setting → (default, value), for the settings that differ from their defaults.
        features: The columns of a table that are the features of a pair; empty if the pair takes columns by name.
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
    """Whether `data` is a table in a file, rather than the name of a data set."""
    return data not in (None, "", *DATASETS) and (bool(Path(str(data)).suffix) or Path(str(data)).exists())


def digest_of(file: str) -> str:
    """The SHA-256 of a table's file, to recognise it later; empty if it is not a file."""
    path = Path(file)
    if not path.is_file():
        return ""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
