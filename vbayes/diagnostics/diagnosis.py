"""Whether a fit is to be believed: what its guide is worth, in numbers, in words, in a picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..inference.advice import NAMED, OWN, Advice
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
    """How good the guide of a fit is as a posterior, by the importance weights of its own draws; closed-form truth is not used.

    Where each datum has its own latents and no others are there, as in a variational autoencoder, the weights are of each datum by itself; `k_hat` and `effective` are then
    what nine of ten data have or better.

    Attributes:
        trust: "good": use the draws. "reweight": use them weighted, `vb.posterior(fit, method="psis")`. "bad": neither can be trusted.
        k_hat: Shape of the Pareto tail of the weights; from .7 on they have no variance to speak of, and `trust` is "bad", unless a second look, `wider`, finds nothing.
        k_hat_se: Its standard error.
        effective: How many draws from the posterior the weighted draws are worth.
        draws: K, of the guide.
        elbo, elbo_se: Nats, of the data that were looked at.
        log_evidence, log_evidence_se: log of the mean weight, a lower bound on average, and its error as far as the draws can tell; NaN where there is none.
        sites: Where the weights move the draws, the most moved first: site, element, moved (sds of q), sd_ratio, se of the move.
        pair, data: Names.
        rows: N that were looked at.
        training: Of a fit; None for a pair.
        each: Per datum k_hat and effective; None where all weigh as one.
        uncovered: Latents of which the guide can't draw all values.
        modes: Of guides by a word: the mass of each mode that the search for a start has found and that q does not cover, in parts of all modes.
        endless: Of guides by a word: numbers along which the density was found not to fall off.
        points: Whether the guide is of points without a spread.
        not_finite: Draws whose weight is NaN or +∞.
        tail: The heaviest weights, as parts of the mean weight, in falling order, of the datum with the largest k̂: for the figure.
        history: ELBO per datum at each step, of a fit.
        look: Makes `parts`.
        mean_field: Whether the guide is a normal of independent numbers.
        wider: The second look at a guide of which k̂ alone is bad; None where there was none.
        guide: What it is, in words; empty for one of a user's own.
        richer: What to do where it is not enough, down to what to type.
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

    @cached_property
    def parts(self) -> Parts | None:
        """Where all latents weigh as one, and a plate has latents for each of its rows: what those are worth by themselves, and what the others are.

        None where there is no such plate, or its rows are not independent given the others in model and guide. It is looked at when it is asked for.
        """
        found = self.look() if self.look and self.each is None else None
        # The weights of all latents are also weights of some of them.
        known = self.trust != "bad" and found is not None and bool(found.shared)
        return replace(found, trust=self.trust) if known and found else found

    @property
    def converged(self) -> bool | None:
        """Whether training had converged; None where nobody has tested it."""
        return self.training.converged if self.training else None

    @property
    def above(self) -> float:
        """The part of the data whose k̂ is .7 or more; of all at once 0 or 1."""
        return float(np.mean(self.k_hat >= WORST_K if self.each is None else self.each.k_hat >= WORST_K))

    @property
    def advice(self) -> Advice:
        """What to do with the draws."""
        return Advice(
            self.trust, self.richer, self.training, points=self.points, endless=self.endless, modes=self.modes, uncovered=self.uncovered
        )  # fmt: skip

    def short(self) -> str:
        """In a few words: what to do with the draws."""
        return self.advice.short()

    def card(self) -> Card:
        """The verdict in a word, and what it rests on."""
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
            rows.append((self.training.bound, f"infinite, or no draws show it: k̂ ≥ {self.training.infinite_from:.2f}"))
        if off := self._moved():
            rows.append(("moved", off))
        if self.uncovered:
            rows.append(("not covered", f"by the guide: {', '.join(self.uncovered)}"))
        if self.modes:
            rows.append(("other modes", f"of about {', '.join(f'{part:.2f}' for part in self.modes)} of the mass"))
        return Card(f"Diagnosis: {self.pair} on {self.data}", tuple(rows))

    def verdict(self) -> str:
        """In a few sentences: how far it is, what the draws are worth, and what to do."""
        how_far = f"{self.training.words()} " if self.training else ""
        guide = f"Guide: {self.guide}. " if self.guide else ""
        return f"{how_far}{guide}{self._worth()} {self.advice.words(self._moved())}{self._infinite()}{self._response()}{missed(self.uncovered)}"

    def _worth(self) -> str:
        if self.points:
            return "The guide is a point, which has no spread: it says nothing of how sure the posterior is."
        if self.not_finite:
            return f"{self.not_finite:,} of {self.draws:,} draws have a weight that is no finite number."
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
        """Whether the bound that a fit followed is infinite here, as that of `vb.CUBO` is where the weights have no n-th moment, or so heavy that no number of draws shows it."""
        k_hat = self.k_hat if self.each is None else float(self.each.k_hat.max())
        return bool(self.training and not self.points and self.training.infinite_from <= k_hat)

    def _infinite(self) -> str:
        """What is wrong with the bound that was followed, and what may mend it."""
        if not (self.training and self.infinite):
            return ""
        return (
            f" {self.training.bound} is not to be believed: from k̂ = {self.training.infinite_from:.2f} on the bound is infinite, or no number of draws shows it, and what was followed is what a few "
            "draws had of it. Where latents are correlated it wants a guide with covariances, guide='full' or AutoMultivariateNormal; more particles mend it in two or three dimensions alone."
        )

    def _response(self) -> str:
        """Where covariances may be what is missing."""
        other = self.trust == "good" or self.uncovered or self.modes or self.endless or self.not_finite
        if other or not self.mean_field or len(self.sites) < 2:
            return ""
        return " A mean-field guide has no covariances, and its sds are too small where latents are correlated: vb.linear_response(fit) estimates both."

    def _moved(self) -> str:
        """The latents that weights move, where the weights can be trusted, and there are not so many that the farthest is far by chance."""
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
        """The evidence for the verdict: the tail of the weights, or k̂ of each datum, or both where there are `parts`; where weights move the draws; the ELBO of a fit."""
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
    """k̂, its error and the effective number that nine of ten data have or better; of one number, that number."""
    if k_hat.size == 1:
        return float(k_hat.reshape(())), float(se.reshape(())), float(effective.reshape(()))
    order = np.argsort(k_hat)
    at = order[min(k_hat.size - 1, math.ceil(0.9 * k_hat.size) - 1)]
    return float(k_hat[at]), float(se[at]), float(np.sort(effective)[max(0, math.floor(0.1 * k_hat.size))])
