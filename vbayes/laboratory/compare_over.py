"""Comparisons as a function of something: the minibatch's size, the latent dimension, the width of a network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..arguments.choice import Text
from ..arguments.function import FUNCTION
from ..arguments.kind import Several
from ..arguments.real import Real
from ..arguments.takes import takes
from ..errors import BadInput
from ..summaries.bias_alarms import at_one_point
from ..summaries.card import Card, Displayable, first_few
from .comparison import COLUMNS, Comparison

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 4  # values on a card


@dataclass(frozen=True, repr=False)
class ComparisonOver(Displayable):
    """Result of `vb.compare_over`.

    Attributes:
        name: Name of the setting that was varied.
        comparisons: Value of that setting → comparison.
    """

    name: str
    comparisons: Mapping[float, Comparison]

    def card(self) -> Card:
        """What was varied, and which estimator is best at the end of each training."""
        each = list(self.comparisons.items())
        pairs, data = (dict.fromkeys(getattr(result, name) for _, result in each) for name in ("pair", "data"))
        rows = [("estimators", first_few(dict.fromkeys(name for _, result in each for name in result.estimators), 6))]
        for value, result in each[:MOST]:
            found = dict(result.card().rows).get("best at the end", "–")
            rows.append((f"{self.name} {value:g}", found))
        if (more := len(each) - MOST) > 0:
            rows.append(("", f"and {more} more"))
        return Card(f"ComparisonOver: {self.name}, {', '.join(pairs)} on {', '.join(data)}", tuple(rows))

    def to_dataframe(self) -> pd.DataFrame:
        """The tables of all comparisons; the first column is the varied setting."""
        tables = [result.to_dataframe().assign(**{self.name: value}) for value, result in self.comparisons.items()]
        table = pd.concat(tables, ignore_index=True)
        return table[[self.name, *(column for column in table if column != self.name)]]

    def slopes(self, y: str = "variance", *, at: str | None = None, group: str = "all") -> pd.DataFrame:
        """The exponent b of y ∝ value^b for each estimator, by least squares on logarithms, weighted by their errors.

        Args:
            y: A column with a standard error, such as "variance", "snr" or "ms_per_gradient".
            at: Point of training; the last one of each comparison if None.
            group: Name of a group of parameters.

        Returns:
            One row for each estimator with positive measurements at two or more values: `estimator`, `slope`, and `slope_se`, the larger of the errors computed from the errors of the points and from their distance to the line.
        """
        table = at_one_point(self.to_dataframe(), at)
        table = table[(table.group == group) & (table[y] > 0)]
        rows = []
        for estimator, own in table.groupby("estimator", sort=False):
            if own[self.name].nunique() < 2:
                continue
            x, v = np.log(own[self.name].to_numpy(float)), np.log(own[y].to_numpy(float))
            weight = (own[y] / own[f"{y}_se"].clip(lower=1e-12)).to_numpy(float) ** 2
            x = x - np.average(x, weights=weight)
            slope = float((weight * x * v).sum() / (weight * x**2).sum())
            left = v - np.average(v, weights=weight) - slope * x
            scale = max(1.0, float((weight * left**2).sum()) / max(len(x) - 2, 1))
            rows.append(
                {"estimator": estimator, "slope": slope, "slope_se": math.sqrt(scale / float((weight * x**2).sum()))}
            )
        return pd.DataFrame(rows, columns=["estimator", "slope", "slope_se"])

    def verdict(self) -> str:
        """Which estimator is best at each value, within error, and how the variances grow."""
        best = {value: result.ties() for value, result in self.comparisons.items()}
        words = self.name.replace("_", " ")
        always = [name for name in next(iter(best.values())) if all(name in names for names in best.values())]
        if always:
            alone = all(len(names) == 1 for names in best.values())
            are = "is best for its cost" if len(always) == 1 else "are best for their cost"
            text = f"{' and '.join(always)} {are}{'' if alone else ', or within error of it,'} at every {words}."
        else:
            text = (
                "Best for its cost: "
                + ", ".join(f"{' or '.join(names)} at {words} {value}" for value, names in best.items())
                + "."
            )
        slopes = self.slopes()
        if len(self.comparisons) > 2 and len(slopes):
            grown = [f"{r.estimator} {r.slope:+.2f} ± {r.slope_se:.2f}" for r in slopes.itertuples()]
            text += f" Variance scales like {words} to the power of: {', '.join(grown)}."
        return text

    def plot(self, y: str = "variance", *, at: str | None = None, group: str = "all") -> Figure:
        """Plots a column of the table against the varied setting."""
        from matplotlib import pyplot

        from ..plots import over

        figure, ax = pyplot.subplots(figsize=(8, 4.2), layout="constrained")
        over(self.to_dataframe(), ax, y=y, at=at, group=group)
        return figure


@takes(name=Text(empty=False), values=Several(Real()), comparison=FUNCTION)
def compare_over(name: str, values: Iterable[float], comparison: Callable[[float], Comparison]) -> ComparisonOver:
    """Runs a comparison for each of several values of a setting.

    Args:
        name: Name of the setting, used as a column name.
        values: Values of the setting, as numbers.
        comparison: Function from a value to a comparison.

    Raises:
        BadInput: There are no values, or duplicates; or `name` is already a column of the table.

    Examples:
        >>> over = vb.compare_over("batch_size", (10, 100, 1000), lambda m: vb.compare(pair, data, batch_size=m, steps=0))
        >>> over = vb.compare_over("latents", (2, 8, 32), lambda d: vb.compare(vb.pairs.vae(latent=d), data, steps=500))
        >>> over.plot("variance")
    """
    values = list(values)
    if not values or len(set(values)) < len(values):
        raise BadInput(f"values={values} is not valid. Wanted: one or more distinct numbers.")
    if name in COLUMNS:
        raise BadInput(f"name={name!r} is already a column of a comparison. Wanted: another name.")
    return ComparisonOver(name, {value: comparison(value) for value in values})
