"""Result of a training race: learning curves by steps and by time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..summaries import by_posterior, result_file
from ..summaries.card import Card, Displayable, first_few, rounded, with_error
from ..summaries.ranking import Entry, finished, summary, verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..training.result import Fit

COLUMNS = ("estimator", "seed", "step", "seconds", "elbo_per_datum")
ENTRY_WORDS = ("estimator", "bound", "engine", "failures")
PLAIN = ("pair", "data", "batch_size", "interrupted")  # fields that are stored unchanged in a file


@dataclass(frozen=True, repr=False)
class Race(Displayable):
    """Result of `vb.race`.

    Attributes:
        pair, data: Names of the pair and of the data.
        batch_size: M, rows in a minibatch.
        seeds: Of the runs of each estimator.
        evaluator: A description of how the ELBO was evaluated.
        against: In a race of objectives, a description of how q was compared with the posterior; otherwise empty.
        entries: The estimators in the order given, with their bound, engine, set-up time, and the failures of runs that became NaN or infinite.
        rows: One for each evaluation of a run; see `to_dataframe`.
        interrupted: Whether it was stopped early by Ctrl-C.
        fits: (estimator, seed) → the fit; empty in a race loaded from a file.
    """

    pair: str
    data: str
    batch_size: int
    seeds: tuple[int, ...]
    evaluator: str
    entries: tuple[Entry, ...]
    rows: tuple[dict[str, Any], ...]
    interrupted: bool = False
    against: str = ""
    fits: Mapping[tuple[str, int], Fit] = field(default_factory=dict, compare=False)

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each evaluation: estimator, seed, step (0 is the start), seconds of the run (without set-up and evaluations),
        elbo_per_datum by the common evaluator. A run that became NaN or infinite ends with NaN at the step that failed.
        A race of objectives also has kl, forward_kl (nats per datum, exact), mean_error (posterior sds), sd_error (log ratio; both root mean squares), k_hat and
        effective (fraction of the draws), both for the worst datum; NaN where unknown."""
        return pd.DataFrame(list(self.rows), columns=[*COLUMNS, *(by_posterior.WORDS if self.against else ())])

    def card(self) -> Card:
        """How far the runs went, and which estimator is highest at equal time."""
        table = self.to_dataframe()
        guide = next((fit.guide for fit in self.fits.values()), "")
        rows = [
            ("estimators", first_few((entry.estimator for entry in self.entries), 6)),
            ("seeds", f"{len(self.seeds)}" + (", stopped by Ctrl-C" if self.interrupted else "")),
            *([("guide", guide)] if guide else []),
        ]
        if table.empty or finished(table).empty:
            return Card(f"Race: {self.pair} on {self.data}", (*rows, ("highest", "–: no run stayed finite")))
        first = self.summary().sort_values("elbo_at_seconds", ascending=False).iloc[0]
        reached = with_error(first.elbo_at_seconds, first.elbo_at_seconds_se)
        rows.append(
            ("highest", f"{first.estimator}: {reached} nats per datum after {rounded(first.seconds, 3)} s each")
        )
        rows.append(("evaluated by", self.evaluator))
        if self.against:
            rows.append(("q against p", self.against))
        if failed := [entry.estimator for entry in self.entries if entry.failures]:
            rows.append(("became NaN or infinite", first_few(failed)))
        return Card(f"Race: {self.pair} on {self.data}", tuple(rows))

    def summary(self) -> pd.DataFrame:
        """Tabulates one row for each estimator, best at equal time first.

        Columns: number of `finished` runs; mean over seeds of the ELBO per datum after equal `steps` and after equal `seconds`, as far as every finished
        run has come; `seconds_to_level`, the time at which the runs reach a common `level`, the ELBO per datum above which every run of the better
        half of the estimators ends (NaN if not all runs reach it); `ms_per_step`, the median over
        the steps between two evaluations; `setup_seconds`, before the first step;
        `engine`; `bound`. `…_se` are standard errors over seeds, that is, over draws and data order, not initial parameters. A race of objectives has first
        the measures of the posterior of `to_dataframe`, at equal time, sorted by the distance to it.
        """
        table = self.to_dataframe()
        found = summary(table, self.entries)
        if not self.against:
            return found.sort_values("elbo_at_seconds", ascending=False, ignore_index=True)
        found = by_posterior.at_equal_time(table, self.entries).merge(found, on="estimator")
        first = next(iter(by_posterior.measured(table)), "elbo_at_seconds")
        return found.sort_values(first, ascending=first not in ("effective", "elbo_at_seconds"), ignore_index=True)

    def verdict(self) -> str:
        """The conclusions in one paragraph: which estimator leads at equal steps and at equal time, by differences paired over seeds.

        If all are equally good, a sentence calls any of them worse with a probability of at most 5 %, whatever their number (Student's t for all pairs). With few seeds only large differences
        count: of five estimators 14 standard errors with three seeds, 5.6 with five.
        """
        words = by_posterior.verdict if self.against else verdict
        return words(self.to_dataframe(), self.entries, interrupted=self.interrupted)

    def plot(self) -> Figure:
        """Plots the learning curves against steps and against seconds; for objectives, each measure of the posterior against seconds."""
        from ..plots import objectives, race

        return objectives(self.to_dataframe()) if self.against else race(self.to_dataframe())

    def save(self, path: str | Path) -> Path:
        """Writes everything except the fits as JSON; NaN becomes null."""
        described = {name: getattr(self, name) for name in (*PLAIN, "evaluator", "against", "seeds", "rows")}
        described |= {"entries": [vars(entry) for entry in self.entries], "verdict": self.verdict()}
        return result_file.save(path, described)

    @classmethod
    def load(cls, path: str | Path) -> Race:
        """Loads what `save` wrote, without the fits."""

        def made(described: dict[str, Any]) -> Race:
            evaluator = described["yardstick" if "yardstick" in described else "evaluator"]  # its name in older files
            return cls(
                **{name: described[name] for name in PLAIN},
                evaluator=evaluator,
                against=described.get("against", ""),  # older files have none
                seeds=tuple(described["seeds"]),
                entries=tuple(
                    Entry(**{**result_file.numbers(entry, ENTRY_WORDS), "failures": tuple(entry["failures"])})
                    for entry in described["entries"]
                ),
                rows=tuple(
                    result_file.numbers({k: row[k] for k in (*COLUMNS, *by_posterior.WORDS) if k in row}, {"estimator"})
                    for row in described["rows"]
                ),
            )

        return result_file.load(path, made, "race")
