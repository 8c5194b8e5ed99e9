"""What the laboratory recommends, with the evidence for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..estimators.base import Estimator
from ..summaries.card import Card, Displayable, rounded, with_error
from ..summaries.differences import cost_ratio
from ..summaries.verdict import uncaptured

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS: tuple[str, ...] = (
    "round",
    "estimator",
    "num_particles",
    "noise",
    "variance",
    "variance_se",
    "minibatch",
    "ms_per_gradient",
)
COLUMNS += ("cost", "cost_ratio", "cost_ratio_se", "captured")


@dataclass(frozen=True, repr=False)
class Recommendation(Displayable):
    """Result of `vb.recommend`.

    Attributes:
        estimator: The one to use, with its number of particles and its noise.
        pair, data: Names of the pair and of the data.
        batch_size: M, rows in a gradient.
        minibatch, minibatch_se: Variance due to the choice of rows, in nats², the same for every unbiased estimator; 0 for all rows.
        rows: One for each candidate and round; see `to_dataframe`.
        seconds: Time spent, in seconds.
        guide: A description of the guide; empty for a user-defined one.
    """

    estimator: Estimator
    pair: str
    data: str
    batch_size: int
    minibatch: float
    minibatch_se: float
    rows: tuple[dict[str, Any], ...]
    seconds: float
    guide: str = ""

    def card(self) -> Card:
        """What to use, and what its gradient costs."""
        chosen = self._name()
        last = max((row["round"] for row in self.rows), default=0)
        rows = [("guide", self.guide)] if self.guide else []
        rows.append(("use", chosen))
        for row in self.rows:
            if row["round"] == last and row["estimator"] == chosen:
                rows.append(("variance", f"{with_error(row['variance'], row['variance_se'], 3)} nats² over the draws"))
                rows.append(("time", f"{rounded(row['ms_per_gradient'], 3)} ms a gradient"))
        if self.minibatch > 0:
            rows.append(("minibatch", f"{with_error(self.minibatch, self.minibatch_se, 3)} nats² in addition"))
        tried = len({row["estimator"] for row in self.rows})
        rows.append(("tried", f"{tried} in {rounded(self.seconds, 3)} s, in batches of {self.batch_size:,}"))
        return Card(f"Recommendation: {self.pair} on {self.data}", tuple(rows))

    def to_dataframe(self) -> pd.DataFrame:
        """Tabulates one row for each candidate in each round, best first.

        Columns: `variance` over the draws and `minibatch` over the rows (nats²); `ms_per_gradient`; `cost` = their sum × time, to which the time for an
        optimum of given precision is proportional (Geffner & Domke 2020, arXiv:1911.01894); `cost_ratio` to the best of the round, with an error
        from their common noise.
        """
        return pd.DataFrame(list(self.rows), columns=list(COLUMNS)).sort_values(["round", "cost"], ignore_index=True)

    def verdict(self) -> str:
        """What to use and why, in one paragraph."""
        from ..estimators import name_of

        table = self.to_dataframe()
        last = table[table["round"] == table["round"].max()]
        chosen = name_of(self.estimator)
        row = last[last.estimator == chosen].iloc[0]
        text = f"Use {chosen}: {row.ms_per_gradient:.3g} ms and a variance of {row.variance:.3g} nats² per gradient"
        if self.minibatch > 0:
            share = self.minibatch / (self.minibatch + row.variance)
            text += f", beside {self.minibatch:.3g} (± {self.minibatch_se:.1g}) of the minibatch, {share:.0%} of both"
        text += "."
        rest = last[last.estimator != chosen]
        if rest.empty:
            return text + " No other candidate was left to compare it with."
        best = last.iloc[0]
        if best.estimator != chosen:
            text += f" {best.estimator} can't be distinguished from it, and is less simple."
        second = rest[rest.estimator != best.estimator]
        if not second.empty:
            other = second.iloc[0]
            ratio, se = self._ratio(other.estimator, chosen)
            text += f" {other.estimator} needs {ratio:.2g} ± {se:.1g} times the time for the same precision."
        first = table[table["round"] == table["round"].min()]
        worst = first.iloc[-1]
        text += f" The worst of the {len(first)} of the first round, {worst.estimator}, needed {worst.cost_ratio:,.3g} times that of its best."
        return f"{text} {uncaptured(last)}".rstrip()

    def _ratio(self, estimator: str, to: str) -> tuple[float, float]:
        """The ratio of the costs of two candidates in the last round, with its paired error."""
        last = max(row["round"] for row in self.rows)
        rows = {row["estimator"]: row for row in self.rows if row["round"] == last}
        return cost_ratio(rows[estimator], rows[to], self.minibatch)

    def plot(self) -> Figure:
        """Plots variance against time for every candidate, with lines of equal cost."""
        from matplotlib import pyplot

        from ..plots import recommendation

        figure, ax = pyplot.subplots(figsize=(8, 4.6), layout="constrained")
        recommendation(self.to_dataframe(), ax, chosen=str(self._name()))
        return figure

    def _name(self) -> str:
        from ..estimators import name_of

        return name_of(self.estimator)
