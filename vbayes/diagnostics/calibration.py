"""What many fits of simulated data say of the procedure: in numbers, in words, in a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from ..summaries.card import Card, Displayable, counted
from ..summaries.rank_tests import rank_tests, rank_verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 4  # parameters on a card


@dataclass(frozen=True, repr=False)
class Calibration(Displayable):
    """Result of `vb.calibrate`: ranks of the true latents among draws of q, over many simulated data sets.

    If q were the posterior each time, each rank would be as frequent as any other. That is necessary, not sufficient: it is seen for each parameter by itself, and
    on the average over the data that the prior makes.

    Attributes:
        ranks: Site → (R, …) int64, how many of S draws of q were below the true value.
        draws: Number of draws, S.
        steps: Of each fit, in the median.
        failed: Fits that became NaN or infinite, whose ranks are not among them.
        pair, data, guide: Names; the guide in words, empty for one of a user's own.
    """

    ranks: Mapping[str, Tensor]
    draws: int
    steps: int
    failed: int
    pair: str
    data: str
    guide: str = ""

    def __len__(self) -> int:
        return len(next(iter(self.ranks.values())))

    @property
    def each(self) -> dict[str, Any]:
        """Parameter → (R,) ranks; the entries of a site are counted from 0, as `theta[3]`."""
        found: dict[str, Any] = {}
        for name, values in self.ranks.items():
            for index in np.ndindex(*values.shape[1:]):
                label = f"{name}[{', '.join(map(str, index))}]" if index else name
                found[label] = values[(slice(None), *index)].cpu().numpy()
        return found

    @property
    def calibrated(self) -> bool:
        """Whether nothing speaks against it, at a chance of 1 % that something does by accident."""
        return not self.to_dataframe().said.any()

    def to_dataframe(self) -> pd.DataFrame:
        """A row for each parameter: parameter, bias, bias_se, bias_p, spread, spread_se, spread_p, shape_p, said; see `rank_tests`."""
        return rank_tests(self.each, self.draws)

    def card(self) -> Card:
        """How many fits, and what they say."""
        table = self.to_dataframe()
        alarmed = [f"{row.parameter}: {row.said}" for row in table.itertuples() if row.said]
        rows = [
            ("data sets", f"{len(self):,} simulated, {counted(self.steps, 'step')} each, {self.draws} draws"),
            (
                "parameters",
                f"{len(table):,}, of which {len(alarmed) or 'none'} {'is' if len(alarmed) == 1 else 'are'} off",
            ),
        ]
        rows += [("", line) for line in alarmed[:SHOWN]]
        if self.guide:
            rows.append(("guide", self.guide))
        if self.failed:
            rows.append(("not counted", f"{counted(self.failed, 'fit')} that became NaN or infinite"))
        return Card(f"Calibration: {self.pair} on data like {self.data}", tuple(rows))

    def verdict(self) -> str:
        """In words, with what would have been seen."""
        return rank_verdict(self.to_dataframe(), len(self), self.failed)

    def plot(self) -> Figure:
        """Histograms of the ranks, the least calibrated first."""
        from ..plots import calibration

        return calibration(self.each, self.draws, self.to_dataframe())
