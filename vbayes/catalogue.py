"""What there is to name on the command line."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from rich.table import Table

from .data import DATASETS
from .estimators import ESTIMATORS
from .pairs import PAIRS
from .tables import plain_table


def catalogue() -> Iterator[Table]:
    """Pairs, estimators and data sets that have a name."""
    pairs = plain_table("pair", "data", "what", title="Pairs")
    for name, recipe in PAIRS.items():
        pairs.add_row(name, recipe.data, recipe.summary)
    yield pairs
    estimators = plain_table("estimator", "bound", "unbiased for", "needs", "K ≥", "reference", title="Estimators")
    for name, kind in ESTIMATORS.items():
        needs = "a path at every site" if "path" in kind.needs else "nothing"
        estimators.add_row(name, kind.bound, kind.unbiased_for, needs, str(kind.min_particles), kind.reference)
    yield estimators
    data = plain_table("data set", "what", title="Data sets")
    for name, loader in DATASETS.items():
        data.add_row(name, (inspect.getdoc(loader) or "").split("\n")[0])
    yield data
