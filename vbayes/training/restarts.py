"""Several fits of one pair from several starts, side by side in one loop."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import NonFinite, Unsuitable
from ..export.to_arviz import to_arviz
from ..summaries.card import Card, Displayable, counted, first_few, rounded, with_error
from ..summaries.r_hat import AGREE, r_hat
from .end import LOOKS, elbo_at_the_end, looks_at_the_end, lowers
from .result import Fit
from .settled import search_of
from .tolerance import Tolerance

if TYPE_CHECKING:
    from arviz import InferenceData
    from matplotlib.axes import Axes

SURE = 2.0  # standard errors
TAIL = 10  # a fit's ELBO is its mean over the last of so many parts of the steps


@dataclass(frozen=True, repr=False)
class Restarts(Displayable):
    """Several fits of one pair from different starts, with different draws.

    Attributes:
        fits: The fits, in the order of their starts; the first equals a single fit up to rounding. A fit that became NaN or
            infinite ends before the others.
        steps: Number of steps for each fit; None if they trained until convergence.
        failures: For each fit the error that ended it, with step and site; None if it stayed finite.
        alike: Whether all started from the same values, so that their agreement says nothing.
    """

    fits: tuple[Fit, ...]
    steps: int | None
    failures: tuple[NonFinite | None, ...] = ()
    alike: bool = False

    @property
    def best(self) -> Fit:
        """The fit with the highest final ELBO, among those that finished."""
        table = self.to_dataframe()
        return self.fits[int(table.restart[table.best].iloc[0])]

    @cached_property
    def _ends(self) -> list[tuple[float, float]]:
        return [elbo_at_the_end(fit) for fit in self.fits]

    def behind(self) -> pd.DataFrame:
        """How far each fit that finished ends behind the best of them: restart, gap and gap_se (in nats; the ELBO of the final parameters at the same draws for all fits, or, of another bound, its
        mean in the history), and tied: whether that is no more than two standard errors, or than the tolerance of training."""
        table = self.to_dataframe()
        own = table[table.finished]
        if lowers(self.fits[0]) or self.fits[0].bound == "ELBO":
            values = np.stack([looks_at_the_end(self.fits[number]) for number in own.restart])
            gaps = values[values.mean(1).argmax()] - values
            gap, gap_se = gaps.mean(1), gaps.std(1, ddof=1) / LOOKS**0.5
        else:
            top = own.loc[own.elbo.idxmax()]
            gap = (top.elbo - own.elbo).to_numpy()
            gap_se = np.where(gap > 0, np.hypot(own.elbo_se.fillna(0.0), top.elbo_se), 0.0)
        ended = [self.fits[number] for number in own.restart]
        small = [each.convergence.tolerance if each.convergence else Tolerance.of(each).nats for each in ended]
        tied = gap <= np.fmax(SURE * gap_se, small)
        return pd.DataFrame({"restart": own.restart, "gap": gap, "gap_se": gap_se, "tied": tied}).reset_index(drop=True)

    @property
    def spread(self) -> float:
        """Standard deviation of the final ELBO per datum between the fits, in nats."""
        return float(self.to_dataframe().elbo_per_datum.std())

    def to_dataframe(self) -> pd.DataFrame:
        """One row for each fit: restart (from 0), seed, steps, elbo (in nats: the mean over the last tenth of the steps; for training until convergence, the ELBO at the mean of
        the last iterates; for an objective that is minimised, such as that of `CUBO`, the final ELBO with the same draws for all fits), its standard error elbo_se, elbo_per_datum, finished (whether it stayed finite), best."""
        longest = max(fit.steps for fit in self.fits)
        rows = []
        for number, fit in enumerate(self.fits):
            tail = fit.history.elbo.tail(max(1, fit.steps // TAIL))
            elbo = float(tail.mean()) if fit.steps else float("nan")
            elbo_se = float(tail.sem()) if len(tail) > 1 else float("nan")
            finished = fit.steps == (longest if fit.interrupted else self.steps)
            if self.steps is None:
                elbo, elbo_se, finished = _reached(fit), float("nan"), fit.convergence is not None
            if fit.steps and lowers(fit):
                elbo, elbo_se = self._ends[number]
            rows.append(
                {
                    "restart": number,
                    "seed": fit.seed,
                    "steps": fit.steps,
                    "elbo": elbo,
                    "elbo_se": elbo_se,
                    "elbo_per_datum": elbo / len(fit.data),
                    "finished": finished,
                }
            )
        table = pd.DataFrame(rows)
        winner = table.elbo.where(table.finished).idxmax() if (table.finished & table.elbo.notna()).any() else 0
        return table.assign(best=table.index == winner)

    def card(self) -> Card:
        """The best fit, and how far apart the fits end."""
        table, first = self.to_dataframe(), self.fits[0]
        best, rows = table[table.best].iloc[0], len(first.data)
        found = (
            ("fits", f"{len(self.fits)}, of which {int(table.finished.sum())} finished"),
            ("steps", self._steps()),
            ("best", f"restart {best.restart}: {with_error(best.elbo / rows, best.elbo_se / rows)} nats per datum"),
            ("spread", f"{rounded(self.spread, 3)} nats per datum between the fits"),
            *((f"restart {number}", _ended(error)) for number, error in enumerate(self.failures) if error),
        )
        return Card(f"Restarts: {first.pair.name} on {first.data.name}", found)

    def _steps(self) -> str:
        if self.steps is not None:
            return counted(self.steps, "step") + " each"
        known = sum(fit.convergence is not None and fit.convergence.converged is True for fit in self.fits)
        least, most = (f(fit.steps for fit in self.fits) for f in (min, max))
        return f"{least:,} to {counted(most, 'step')}; {known} of {len(self.fits)} converged"

    def r_hat(self, draws: int = 1000, seed: int | None = None) -> pd.DataFrame:
        """R̂ of the latents' draws between the fits that finished, largest first: site, element, r_hat. Values above about 1.05 mean that the starts led to different posteriors.

        Each fit tests its own iterates for stationarity; R̂ compares the draws of different fits, and so does not depend on how the guide is parameterised. Latents
        without a fixed order, such as the dimensions of an autoencoder's code, differ between starts that are equally good.

        Args:
            draws: Number of draws from each fit.
            seed: Seed for the draws.

        Raises:
            Unsuitable: Fewer than two fits finished.
        """
        finished = [fit for fit, done in zip(self.fits, self.to_dataframe().finished, strict=True) if done]
        if len(finished) < 2:
            raise Unsuitable(f"{counted(len(finished), 'fit')} finished. Wanted: at least two, to compare.")
        made = to_arviz(finished, draws=draws, seed=seed, prior=False)["posterior"]
        rows = []
        for name, values in made.data_vars.items():
            found = r_hat(np.asarray(values.values, dtype=float))
            rows += [(name, ", ".join(map(str, place)), float(found[place])) for place in np.ndindex(found.shape)]
        table = pd.DataFrame(rows, columns=["site", "element", "r_hat"])
        return table.sort_values("r_hat", ascending=False, kind="stable", ignore_index=True)

    def verdict(self, draws: int = 1000) -> str:
        """How many fits have converged, and whether they agree, in two sentences."""
        table = self.to_dataframe()
        known = sum(fit.convergence is not None and fit.convergence.converged is True for fit in self.fits)
        text = f"Of {counted(len(self.fits), 'start')} {int(table.finished.sum())} finished and {known} are known to have converged."
        if table.finished.sum() < 2:
            return text
        worst = self.r_hat(draws).iloc[0]
        where = f"{worst.site}{f'[{worst.element}]' if worst.element else ''}"
        if worst.r_hat < AGREE and self.alike:
            return (
                f"{text} All {len(self.fits)} started at the same place, so their agreement says nothing about other modes. Wanted: random initial values in the guide, such as "
                'pyro.param("loc", lambda: 3 * torch.randn(())), or no guide: vb.fit(model, data, restarts=4).'
            )
        if worst.r_hat < AGREE:
            return f"{text} They agree on one posterior: R̂ is at most {worst.r_hat:.2f}, at {where}."
        return f"{text} They led to different posteriors: R̂ is {worst.r_hat:.2f} at {where}. {self._compared(known)}"

    def _compared(self, known: int) -> str:
        """Which fits have reached the best ELBO, within its errors, in words.

        Args:
            known: Number of fits that are known to have converged.
        """
        table = self.behind()
        bound = "ELBO" if lowers(self.fits[0]) else self.fits[0].bound
        far = table.loc[table.gap.idxmax()]
        modes = "the posterior has several modes, unless they differ only by a relabelling"
        if table.tied.all():
            return f"Their final {bound} values differ by no more than their errors ({with_error(far.gap, far.gap_se, 2)} nats at most), so none is better than the others: {modes}."
        top = table[table.tied].restart.tolist()
        number = self.fits.index(self.best)
        use = number if number in top else top[0]
        best = f"start {top[0]} reaches" if len(top) == 1 else f"starts {', '.join(map(str, top))} reach, within error,"
        text = f"Of them {best} the best {bound}; the worst ends {with_error(far.gap, far.gap_se, 2)} nats below. Use fits[{use}]."
        if len(top) > 1:
            text += f" If those {len(top)} differ from each other, {modes}."
        return text + " Fits that have not converged may still be on their way: train longer." * (known < len(table))

    def to_arviz(
        self,
        data: Any = None,
        *,
        draws: int = 1000,
        seed: int | None = None,
        prior: bool = True,
        resample: bool = False,
        predictions: Any = None,
        coords: Mapping[str, Sequence[Any]] | None = None,
        dims: Mapping[str, Sequence[str]] | None = None,
    ) -> InferenceData:
        """Like `vb.to_arviz` for one fit, with one chain for each fit, so that R-hat tells whether the starts led to the same posterior."""
        names = {"predictions": predictions, "coords": coords, "dims": dims}
        return to_arviz(self.fits, data, draws=draws, seed=seed, prior=prior, resample=resample, **names)

    def plot(self, ax: Axes | None = None) -> Axes:
        """Plots the ELBO, or other bound, per datum of each fit against steps, with the best fit in colour."""
        from matplotlib import pyplot

        from ..plots import restarts

        if ax is None:
            _, ax = pyplot.subplots(figsize=(8, 3.6), layout="constrained")
        return restarts([fit.history for fit in self.fits], self.fits.index(self.best), ax, bound=self.fits[0].bound)


def _reached(fit: Fit) -> float:
    """The final ELBO of training until convergence, in nats."""
    if fit.convergence is None:
        return math.nan
    if fit.convergence.phases:
        return fit.convergence.phases[-1].elbo
    search = search_of(fit)
    return search.value if search else math.nan


def _ended(error: NonFinite) -> str:
    names = error.sites or error.parameters
    where = f", {'site' if error.sites else 'parameter'} {first_few(names, 2)}" if names else ""
    return f"became NaN or infinite at step {error.step}{where}"
