"""Result of a calibration: tables, a verdict and a plot."""

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

    If q were the exact posterior each time, all ranks would be equally likely. This is necessary, but not sufficient: it is tested for each parameter on its own, and
    averaged over the data that the prior generates.

    Attributes:
        ranks: Site → (R, …) int64, how many of the S draws of q were below the true value.
        draws: Number of draws, S.
        steps: Median number of steps of the fits.
        failed: Number of fits that became NaN or infinite, which are left out of the ranks.
        pair, data, guide: Names of the pair and the data, and a description of the guide, empty for a user-defined one.
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
        """Parameter → (R,) ranks; the entries of a site are indexed from 0, such as `theta[3]`."""
        found: dict[str, Any] = {}
        for name, values in self.ranks.items():
            for index in np.ndindex(*values.shape[1:]):
                label = f"{name}[{', '.join(map(str, index))}]" if index else name
                found[label] = values[(slice(None), *index)].cpu().numpy()
        return found

    @property
    def calibrated(self) -> bool:
        """Whether no test rejects calibration, at an overall false-alarm rate of 1 %."""
        return not self.to_dataframe().said.any()

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each parameter: parameter, bias, bias_se, bias_p, spread, spread_se, spread_p, shape_p, said; see `rank_tests`."""
        return rank_tests(self.each, self.draws)

    def card(self) -> Card:
        """The number of fits, and the outcome of the tests."""
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
        """The outcome in words, with the size of errors that the test could have detected."""
        return rank_verdict(self.to_dataframe(), len(self), self.failed)

    def plot(self) -> Figure:
        """Plots histograms of the ranks, least calibrated first."""
        from ..plots import calibration

        return calibration(self.each, self.draws, self.to_dataframe())
