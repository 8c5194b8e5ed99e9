"""Result of a comparison: which estimator has the least gradient noise, and the least for its cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..summaries import result_file
from ..summaries.bias_alarms import alarmed, bounds, trusted
from ..summaries.card import Card, Displayable, first_few
from ..summaries.differences import differences
from ..summaries.ties import ties
from ..summaries.verdict import verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training.result import Fit

COLUMNS: tuple[str, ...] = ("at", "estimator", "group", "mean_norm", "bias_z", "variance", "variance_se", "snr")
COLUMNS += ("ms_per_gradient", "variance_time", "mean_norm_se", "snr_se", "ms_se", "variance_time_se")
COLUMNS += ("dsnr", "dsnr_se", "bias", "bias_se", "bias_resolution", "num_particles", "bound", "oracle")
COLUMNS += ("step", "elbo_per_datum", "truth", "heaviest_block", "captured")
WORDS = ("at", "estimator", "group", "bound", "oracle", "captured")  # columns that hold no numbers
PLAIN = ("pair", "data", "batch_size", "replicas", "seed", "oracle")  # fields that are stored unchanged in a file


@dataclass(frozen=True)
class Point:
    """A point of the training at which gradients were measured.

    Attributes:
        at: Its name ("start").
        step: Optimiser steps before it.
        elbo_per_datum: ELBO at this point, in nats, on the measured batch.
    """

    at: str
    step: int
    elbo_per_datum: float


@dataclass(frozen=True, repr=False)
class Comparison(Displayable):
    """Result of `vb.compare`.

    Attributes:
        pair, data: Names of the pair and of the data.
        batch_size: M, rows in the one minibatch whose gradient is estimated repeatedly.
        replicas: R, gradients for each estimator at each point.
        seed: Seed for all random numbers.
        oracle: Reference for the bias.
        estimators: Names of the estimators, in the order given.
        rows: One for each point, estimator and group; see `to_dataframe`.
        points: Points of the training.
        fit: The training run that led there; None where points were given.
        update: The update whose steps were measured; empty if gradients were.
    """

    pair: str
    data: str
    batch_size: int
    replicas: int
    seed: int
    oracle: str
    estimators: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    points: tuple[Point, ...]
    fit: Fit | None = field(default=None, compare=False)
    update: str = ""

    def to_dataframe(self) -> pd.DataFrame:
        """Tabulates one row for each point of training, estimator and group of parameters.

        The gradient is that of the bound of the whole data set (nats), as estimated from one minibatch.

        With an `update`, it is that gradient in the metric of the guide's normals, where nats² are twice the nats of a step at rate 1.

        - `mean_norm`: the norm of its mean.
        - `bias_z`: the distance of its mean from the reference, in standard errors; NaN if there is no reference, or the estimator
          is its own. `bias`: that distance in nats. `bias_resolution`: the smallest detectable bias, at 4 standard
          errors. `truth`: the norm of the reference. `oracle`: the reference that was used, for the `bound` that the estimator estimates.
        - `variance`: the trace of its covariance over the draws of z (nats²), the minibatch held fixed.
        - `snr` = mean_norm / √variance. `dsnr`: the mean of ‖g∥‖ / ‖g⊥‖, the parts parallel and orthogonal to the reference gradient.
        - `ms_per_gradient`: time per gradient in training. `variance_time` = variance × ms_per_gradient. `captured`: "yes", or why the gradient can't be captured, so that the time is that
          of Pyro, draw by draw.
        - `step`, `elbo_per_datum`: those of the point.
        - `…_se`: standard errors, by the jackknife over blocks of draws. For a norm below the noise, half of an upper bound.
        - `heaviest_block`: the largest fraction of the variance carried by one of the 50 blocks of draws. Above one half, the tails are so heavy that the
          standard errors are too small.
        """
        points = {point.at: {"step": point.step, "elbo_per_datum": point.elbo_per_datum} for point in self.points}
        return pd.DataFrame([{**row, **points.get(row["at"], {})} for row in self.rows], columns=list(COLUMNS))

    def card(self) -> Card:
        """What was compared, which estimator is best at the end, and which are biased."""
        rows = [
            ("estimators", first_few(self.estimators, 6)),
            ("gradients", f"{self.replicas:,} of each, of {self.batch_size:,} rows"),
            ("points", first_few((point.at for point in self.points), 7)),
            *([("steps of", self.update)] if self.update else []),
            *([("guide", guide)] if self.fit and (guide := self.fit.guide) else []),
        ]
        if self.rows and not any(math.isnan(row["variance_time"]) for row in self.rows):
            best = self.best()
            tied = [name for name in self.ties() if name != best]
            rows.append(("best at the end", best + (f"; within error: {first_few(tied)}" if tied else "")))
        if biased := alarmed(self.to_dataframe()):
            rows.append(("biased", first_few(biased)))
        return Card(f"Comparison: {self.pair} on {self.data}", tuple(rows))

    def differences(self, reference: str | None = None) -> pd.DataFrame:
        """Ratios of each estimator's variance to that of a reference, with paired standard errors.

        All estimators used the same base noise, so the effect of a draw on two of them largely cancels in their ratio. The standard
        error comes from leaving the same block out of both.

        Args:
            reference: Name of an estimator; `best()` if None.

        Returns:
            A table with `at`, `estimator`, `group`; `variance_ratio` and `variance_time_ratio` to the reference; `…_se`, paired; and `unpaired_se`, the
            standard error of the variance ratio without common noise.

        Raises:
            BadInput: No such estimator.
        """
        return differences(self.rows, reference or self.best())

    def best(self) -> str:
        """The estimator with the least variance × time at the last point, among those that show no bias; estimators of the ELBO take precedence."""
        table = self.to_dataframe()
        rows = trusted(table)
        last = rows[(rows["at"] == rows["at"].iloc[-1]) & (rows.bound == bounds(table)[0])]
        whole = last[last.group == "all"] if (last.group == "all").any() else last
        return str(whole.loc[whole.variance_time.idxmin(), "estimator"])

    def ties(self) -> tuple[str, ...]:
        """The best estimator and those that can't be distinguished from it, in the order of the estimators: if all are equally good, any is left out with a probability of about 5 %."""
        table = self.to_dataframe()
        at = table["at"].iloc[-1]
        group = "all" if (table.group == "all").any() else str(table.group.iloc[0])
        honest = set(trusted(table).query("bound == @bound", local_dict={"bound": bounds(table)[0]}).estimator)
        return tuple(name for name in ties(self.differences(), at, group) if name in honest)

    def verdict(self) -> str:
        """The conclusions, in one paragraph."""
        return verdict(self.to_dataframe(), self.differences)

    def plot(self) -> Figure:
        """Plots the variance of each group along the training, and variance × time at its end; see `vbayes.plots` for other figures."""
        from ..plots import comparison_figure

        return comparison_figure(self.to_dataframe())

    def along(self, at: str | None = None, group: str = "all") -> dict[str, tuple[tuple[float, ...], float]]:
        """Data for a histogram: name → projections of some hundred draws onto the reference gradient, and the norm of that gradient, in nats.

        Args:
            at: Name of a point; the last one if None.
            group: Name of a group of parameters.
        """
        at = at or self.rows[-1]["at"]
        here = [row for row in self.rows if row["at"] == at and row["group"] == group]
        return {row["estimator"]: (tuple(row["along"]), row["truth"]) for row in here}

    def save(self, path: str | Path) -> Path:
        """Writes everything except the fit as JSON; infinite numbers as strings, and NaN as null."""
        described = {name: getattr(self, name) for name in (*PLAIN, "estimators", "rows", "update")}
        described |= {"points": [vars(point) for point in self.points], "verdict": self.verdict()}
        return result_file.save(path, described)

    @classmethod
    def load(cls, path: str | Path) -> Comparison:
        """Loads what `save` wrote, without the fit."""

        def made(described: dict[str, Any]) -> Comparison:
            return cls(
                **{name: described[name] for name in PLAIN},
                estimators=tuple(described["estimators"]),
                rows=tuple(result_file.numbers(row, WORDS) for row in described["rows"]),
                points=tuple(Point(**result_file.numbers(point, WORDS)) for point in described["points"]),
                update=described.get("update", ""),
            )

        return result_file.load(path, made, "comparison")
