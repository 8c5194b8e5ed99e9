"""Advice on what to do with the draws of a guide, and what to type if they can't be used. Verdicts, cards and evidences all take it from here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch

from ..data.dataset import Batch
from ..guides import Whitened
from ..guides.log_density import is_discrete
from ..guides.richer import PLAIN, richer
from ..pair.pair import Pair
from ..pair.problem import Problem
from ..pair.sites import Layout, latents
from ..summaries.listed import listed
from ..summaries.trained import Training, lost
from ..training.updating import bound_of
from ..validation import validation
from .carried import Carried, carried
from .psis import Trust

NAMED = 3  # maximum number of directions named in a sentence
OF_ROWS = "use a richer guide of your own, with a larger network, or with covariances between the latents of a row"
OWN = "use a richer guide of your own"
RISING = ("ELBO", "IWAE")  # bounds that fall only if something is wrong
HELP = (
    "Known to help: a learned or smaller scale of the likelihood, as a latent that explains less of x than this noise costs more KL than it gains; a warm-up of the KL, "
    "vb.fit(pair, data, vb.Beta(beta=1.0, warm_up=1000), epochs=...); a decoder that can't model x without the latents"
)
WORDS = {"good": "use the draws", "reweight": "use weighted draws", "bad": "do not use the draws"}


@dataclass(frozen=True)
class Advice:
    """What to do with the draws of a guide.

    Attributes:
        trust: The verdict from their importance weights; "bad" also if one of the other attributes shows that something is wrong.
        richer: What to do if the guide is not flexible enough, from `richer_than`.
        training: Summary of a fit's training; None for a pair.
        points: Whether the guide is a point mass.
        endless: Directions along which the density was found not to decay.
        modes: The mass of each mode that the search for a start found and q does not cover.
        uncovered: Sites for which the guide can't draw all values; `pair.support.missed` says what to do about them.
        carried: An upper bound on the information that the latents of a datum carry about it; None if it was not, or can't be, estimated.
    """

    trust: Trust
    richer: str = OWN
    training: Training | None = None
    points: bool = False
    endless: tuple[str, ...] = ()
    modes: tuple[float, ...] = ()
    uncovered: tuple[str, ...] = ()
    carried: Carried | None = None

    @property
    def wrong(self) -> bool:
        """Whether something is wrong that importance weights don't show."""
        ruined = self.training is not None and self.training.lost > 0.0
        return bool(self.uncovered or self.modes or self.endless or ruined)

    @property
    def collapsed(self) -> bool:
        """Whether the latents carry no information about the data, and nothing else is wrong."""
        return self.carried is not None and self.carried.nothing and not self.wrong

    def short(self) -> str:
        """What to do with the draws, in a few words."""
        if self.points:
            return "a point, which has no spread"
        if not self.collapsed:
            return f"{self.trust}: {WORDS[self.trust]}"
        use = "" if self.trust == "good" else f": {WORDS[self.trust]}"
        return f"{self.trust}{use}, but the latents carry no information about the data"

    def words(self, moved: str = "") -> str:
        """What to do with the draws, in a sentence or two.

        Args:
            moved: A description of the latents that the weights move.
        """
        if not self.collapsed:
            return self._of_draws(moved)
        use = "" if self.trust == "good" else f"{self._of_draws(moved)} "
        untrained = self.training is None or self.training.converged is False
        first = f"First {self.mend.split(', or ')[0]}. " if untrained else ""
        return (
            f"{use}The latents carry no information about the data (posterior collapse): for every datum the guide is the prior, with a KL of {self.carried}, so its draws do not depend on the datum. "
            f"{first}{HELP}."
        )

    def _of_draws(self, moved: str) -> str:
        if self.trust == "good":
            return "Use the draws."
        if self.trust == "reweight":
            where = f", which move {moved}" if moved else ""
            return f"Use the weighted draws{where}: vb.posterior(fit, method='psis')."
        if self.training and self.training.lost:
            return f"Do not use the draws, weighted or not: {self.mend}."
        if self.points:
            return (
                "Use it only as a point estimate. Wanted: a guide with a density: the default one of vb.fit(model, data), vb.laplace(model, data) around that point, "
                "guide='diagonal', or AutoNormal."
            )
        if self.endless:
            return (
                f"Do not use the draws: along {listed(self.endless[:NAMED])} the density does not decay, so the posterior is improper, or nearly so. Wanted: a proper prior, "
                "or more informative data."
            )
        if self.modes:
            share = " and ".join(f"{part:.2f}" for part in self.modes)
            return (
                f"From other starts there {'is another mode' if len(self.modes) == 1 else 'are other modes'}, with about {share} of the mass, which q does not cover: its draws are from "
                "one mode only. Do not use them, unless the modes differ only by a relabelling, as of a mixture's components."
            )
        return f"Do not use the draws, weighted or not{f': {self.mend}' if self.mend else ''}."

    @property
    def mend(self) -> str:
        """What may improve q, including what to type; empty if another sentence says it."""
        training = self.training
        if training is not None and training.lost:
            return "take a smaller learning rate, or omit it and the number of steps, so that vb.fit(pair, data) chooses both"
        if self.uncovered:
            return ""
        if training is None:
            return f"train it, vb.fit(pair, data), or {self.richer}"
        if training.converged:
            return self.richer
        longer = "fit.resume()"
        return f"train longer: {longer}" if training.converged is False else f"train longer, {longer}, or {self.richer}"


def richer_than(pair: Pair, batch: Batch, tried: Sequence[tuple[str, str]] = ()) -> str:
    """What to do if a pair's guide is not flexible enough.

    Args:
        pair: Initialised.
        batch: Rows of the data, with which the latents are looked up.
        tried: As in `Fit.tried`.
    """
    if words := richer(pair.guide, [name for name, _ in tried]):
        return words
    with pair.look(), torch.no_grad(), validation(False):
        q, p = pair.run(batch)
    if Layout(q, p).local:
        return OF_ROWS
    return OWN if any(map(is_discrete, latents(q))) else PLAIN


def history_of(trained: Any) -> pd.DataFrame | None:
    """The ELBO of a fit by steps; None if it was trained in another way."""
    found = getattr(trained, "history", None)
    return found if isinstance(found, pd.DataFrame) and "elbo_per_datum" in found else None


def training_of(trained: Any) -> Training | None:
    """Summary of a fit's training; None if it is not a fit."""
    history = history_of(trained)
    if history is None:
        return None
    convergence, search = getattr(trained, "convergence", None), getattr(trained.pair.guide, "search", None)
    method = getattr(trained, "estimator", None)
    rises = getattr(method, "bound", "ELBO") in RISING
    return Training(
        len(history),
        float(history.seconds.iloc[-1]) if len(history) else 0.0,
        getattr(convergence, "converged", None),
        str(getattr(convergence, "reason", "")),
        "" if len(history) or search is None else search.words(),
        lost(history.elbo_per_datum.to_numpy()) if rises else 0.0,
        bound_of(trained),
        getattr(getattr(method, "objective", None), "infinite_from", math.inf),
    )


def beside(pair: Pair) -> dict[str, Any]:
    """What the search of a guide chosen by name found besides its start: `modes` and `endless`, as in `Advice`; empty for other guides."""
    guide = pair.guide
    if not isinstance(guide, Whitened):
        return {}
    with pair.look(), torch.no_grad():
        return {"modes": guide.missed_modes(), "endless": guide.places.endless if guide.places else ()}


def advice_of(given: Any, problem: Problem, judged: Trust, *, own: bool) -> Advice:
    """What to do with draws, given the verdict from their weights. For a fit's own data this is its diagnosis, if it has one, so that two verdicts never differ.

    Args:
        given: A pair, a fit, or another trained object.
        problem: Its pair and data.
        judged: The verdict from the weights of these draws.
        own: Whether the data are those of the fit.
    """
    if own and (known := getattr(given, "diagnosis", None)) is not None:
        return known.advice  # type: ignore[no-any-return]
    found = Advice(
        judged, training=training_of(given), uncovered=problem.uncovered, carried=carried(problem.pair, problem.whole), **beside(problem.pair)
    )  # fmt: skip
    if not found.wrong and judged != "bad":
        return found
    return replace(found, trust="bad", richer=richer_than(problem.pair, problem.whole, getattr(given, "tried", ())))
