"""Result of a diagnosis: how good a guide is, as numbers, a verdict and a plot."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..inference.advice import NAMED, OWN, Advice
from ..inference.carried import Carried
from ..inference.psis import WORST_K, Trust
from ..pair.support import missed
from ..summaries.card import Card, Displayable, rounded, with_error
from ..summaries.listed import listed
from ..summaries.trained import Training
from .moved import aside
from .parts import Parts
from .wider import Wider

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Diagnosis(Displayable):
    """Result of `vb.diagnose`: how well the guide of a fit approximates the posterior, judged by the importance weights of its own draws; exact posteriors are not used.

    If all latents belong to single data, as in a variational autoencoder, each datum has its own weights; nine in ten data then have the given `k_hat` and `effective`
    or better ones.

    Attributes:
        trust: "good": use the draws. "reweight": use weighted draws, `vb.posterior(fit, method="psis")`. "bad": neither can be trusted.
        k_hat: Shape of the Pareto tail of the weights; from 0.7 on the weights are too heavy-tailed to use, and `trust` is "bad", unless a second check, `wider`, finds nothing.
        k_hat_se: Its standard error.
        effective: Effective number of posterior draws that the weighted draws are worth.
        draws: K, the number of draws from the guide.
        elbo, elbo_se: ELBO of the data used, and its standard error, in nats.
        log_evidence, log_evidence_se: log of the mean weight, on average a lower bound on log p(x), and its estimated standard error; NaN if not available.
        sites: Where weighting changes the draws, largest change first: site, element, moved (sds of q), sd_ratio, se of the move.
        pair, data: Names of the pair and of the data.
        rows: N, the number of rows used.
        training: How training went; None for a pair.
        each: k_hat and effective of each datum; None where there is one weight for all latents together.
        uncovered: Latents whose values the guide can't all draw.
        modes: For guides chosen by name: the relative mass of each mode that the search for a start found and that q does not cover.
        endless: For guides chosen by name: directions along which the density was found not to decay.
        points: Whether the guide is a point mass, without spread.
        not_finite: Number of draws whose weight is NaN or +∞.
        tail: The heaviest weights of the datum with the largest k̂, relative to the mean weight, in descending order; used for plotting.
        history: ELBO per datum at each step of a fit.
        look: Computes `parts`.
        mean_field: Whether the guide is a normal of independent numbers.
        wider: The second check of a guide for which only k̂ is bad; None if there was none.
        guide: A description of the guide; empty for a user-defined one.
        richer: What to do if the guide is not good enough, including what to type.
        carried: Upper bound on the information that the latents of a datum carry about it; None if there are other latents.
    """

    trust: Trust
    k_hat: float
    k_hat_se: float
    effective: float
    draws: int
    elbo: float
    elbo_se: float
    log_evidence: float
    log_evidence_se: float
    sites: pd.DataFrame
    pair: str
    data: str
    rows: int
    training: Training | None = None
    each: pd.DataFrame | None = None
    uncovered: tuple[str, ...] = ()
    modes: tuple[float, ...] = ()
    endless: tuple[str, ...] = ()
    points: bool = False
    not_finite: int = 0
    tail: np.ndarray = field(default_factory=lambda: np.zeros(0))
    history: pd.DataFrame | None = None
    look: Callable[[], Parts | None] | None = field(default=None, repr=False, compare=False)
    mean_field: bool = False
    wider: Wider | None = None
    guide: str = ""
    richer: str = OWN
    carried: Carried | None = None

    @cached_property
    def parts(self) -> Parts | None:
        """If there is one weight for all latents, and a plate has latents for each of its rows: how good the guide is for those latents, and for the shared ones, separately.

        None if there is no such plate, or its rows are not independent given the shared latents in model and guide. Computed on first access.
        """
        found = self.look() if self.look and self.each is None else None
        # The weights of all latents are also weights of some of them.
        known = self.trust != "bad" and found is not None and bool(found.shared)
        return replace(found, trust=self.trust) if known and found else found

    @property
    def converged(self) -> bool | None:
        """Whether training has converged; None if that was not tested."""
        return self.training.converged if self.training else None

    @property
    def above(self) -> float:
        """The fraction of the data whose k̂ is 0.7 or more; 0 or 1 if there is one k̂ for all."""
        return float(np.mean(self.k_hat >= WORST_K if self.each is None else self.each.k_hat >= WORST_K))

    @property
    def advice(self) -> Advice:
        """What to do with the draws."""
        return Advice(
            self.trust, self.richer, self.training, points=self.points, endless=self.endless, modes=self.modes, uncovered=self.uncovered, carried=self.carried,
        )  # fmt: skip

    def short(self) -> str:
        """What to do with the draws, in a few words."""
        return self.advice.short()

    def card(self) -> Card:
        """The verdict in a word, and the numbers behind it."""
        rows = [("guide", self.guide)] if self.guide else []
        rows.append(("trust", self.short()))
        if self.training:
            rows.append(("trained", self.training.short()))
        if not self.points:
            k_hat = (
                f"{with_error(self.k_hat, self.k_hat_se, 2)}, {self.draws:,} draws worth {rounded(self.effective, 3)}"
            )
            k_hat += "" if self.each is None else f", or better for nine of ten of {len(self.each):,} data"
            low = f"at least {with_error(self.log_evidence, self.log_evidence_se)}"
            rows += [("k̂", k_hat), ("ELBO", f"{with_error(self.elbo, self.elbo_se)} nats, log p(x) {low}")]
        if self.each is not None:
            rows.append(("k̂ ≥ 0.7", f"{self.above:.1%} of {len(self.each):,} data"))
        if self.training and self.infinite:
            rows.append(
                (self.training.bound, f"infinite, or can't be estimated: k̂ ≥ {self.training.infinite_from:.2f}")
            )
        if off := self._moved():
            rows.append(("moved", off))
        if self.advice.collapsed:
            rows.append(("latents", f"carry at most {self.carried}"))
        if self.uncovered:
            rows.append(("not covered", f"by the guide: {', '.join(self.uncovered)}"))
        if self.modes:
            rows.append(("other modes", f"of about {', '.join(f'{part:.2f}' for part in self.modes)} of the mass"))
        return Card(f"Diagnosis: {self.pair} on {self.data}", tuple(rows))

    def verdict(self) -> str:
        """The diagnosis in a few sentences: how far training got, how good the draws are, and what to do."""
        how_far = f"{self.training.words()} " if self.training else ""
        guide = f"Guide: {self.guide}. " if self.guide else ""
        return f"{how_far}{guide}{self._worth()} {self.advice.words(self._moved())}{self._infinite()}{self._response()}{missed(self.uncovered)}"

    def _worth(self) -> str:
        if self.points:
            return "The guide is a point without spread: it says nothing about the uncertainty of the posterior."
        if self.not_finite:
            return f"{self.not_finite:,} of {self.draws:,} draws have a weight that is not finite."
        if self.each is not None:
            return (
                f"Of {len(self.each):,} data, {self.above:.1%} have a k̂ of {WORST_K} or more (median {self.each.k_hat.median():.2f}, worst {self.each.k_hat.max():.2f}); "
                f"{self.draws:,} draws are worth {rounded(self.effective, 3)} or more for nine of ten."
            )
        number = f"k̂ = {self.k_hat:.2f} ± {self.k_hat_se:.2f}"
        worth = f"{self.draws:,} draws are worth {rounded(self.effective, 3)}"
        if self.trust == "bad" and self.parts:
            return f"{number} of all latents together; {worth}. {self.parts.verdict()}"
        cleared = f" {self.wider.verdict()}" if self.wider and self.wider.clears else ""
        return f"{number}; {worth}.{cleared}"

    @property
    def infinite(self) -> bool:
        """Whether the bound of a fit's estimator is infinite here, as for `vb.CUBO` if the weights have no n-th moment, or so heavy-tailed that no number of draws can estimate it."""
        k_hat = self.k_hat if self.each is None else float(self.each.k_hat.max())
        return bool(self.training and not self.points and self.training.infinite_from <= k_hat)

    def _infinite(self) -> str:
        """What is wrong with the bound of the fit's estimator, and what may help."""
        if not (self.training and self.infinite):
            return ""
        return (
            f" {self.training.bound} can't be trusted: from k̂ = {self.training.infinite_from:.2f} on the bound is infinite, or can't be estimated by any number of draws, so that training followed an estimate from "
            "few draws. For correlated latents, use a guide with covariances, guide='full' or AutoMultivariateNormal; more particles help only in two or three dimensions."
        )

    def _response(self) -> str:
        """Advice if the missing covariances may be the reason."""
        other = self.trust == "good" or self.uncovered or self.modes or self.endless or self.not_finite
        if other or not self.mean_field or len(self.sites) < 2:
            return ""
        return " A mean-field guide has no covariances, and its sds are too small where latents are correlated; vb.linear_response(fit) estimates both."

    def _moved(self) -> str:
        """The latents that weighting moves, if the weights can be trusted, and there are not so many latents that the largest move may be chance."""
        if self.trust == "bad" or self.sites.empty or self.each is not None:
            return ""
        off = aside(self.sites).drop_duplicates("site")
        words = [
            f"{row.site}{f'[{row.element}]' if row.element else ''} by {row.moved:+.2f} sd (its sd by a factor of {row.sd_ratio:.2f})"
            for row in off.head(NAMED).itertuples()
        ]
        left = len(off) - len(words)
        return listed([*words, f"{left} more"] if left > 0 else words) if words else ""

    def plot(self) -> Figure:
        """Plots the evidence for the verdict: the tail of the weights, or k̂ of each datum, or both if there are `parts`; where weighting changes the draws; and the ELBO of a fit."""
        from ..plots import diagnosis_figure

        title = f"{self.pair} on {self.data}: {self.trust}"
        k_hats = None if self.each is None else self.each.k_hat.to_numpy()
        apart = None if self.parts is None else self.parts.each.k_hat.to_numpy()
        return diagnosis_figure(
            self.sites,
            self.tail,
            self.k_hat,
            title,
            k_hats=k_hats,
            apart=apart,
            history=self.history,
            bound=self.training.bound if self.training else "ELBO",
        )


def summary_of(k_hat: np.ndarray, se: np.ndarray, effective: np.ndarray) -> tuple[float, float, float]:
    """k̂, its error and the effective number that nine in ten data reach or exceed; for a single number, that number."""
    if k_hat.size == 1:
        return float(k_hat.reshape(())), float(se.reshape(())), float(effective.reshape(()))
    order = np.argsort(k_hat)
    at = order[min(k_hat.size - 1, math.ceil(0.9 * k_hat.size) - 1)]
    return float(k_hat[at]), float(se[at]), float(np.sort(effective)[max(0, math.floor(0.1 * k_hat.size))])
