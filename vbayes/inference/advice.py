"""What to do with draws, and what to type where they won't do: the one place where that is said, for verdicts, cards and evidences alike."""

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

NAMED = 3  # numbers, in a sentence
OF_ROWS = "use a richer guide of your own, with a larger network, or with covariances between the latents of a row"
OWN = "use a richer guide of your own"
RISING = ("ELBO", "IWAE")  # bounds that fall only where something is wrong
HELP = (
    "Known to help: a scale of the likelihood that is learnt or smaller, for what explains less of x than its noise is not worth a latent; a warm-up of the KL, "
    "vb.fit(pair, data, vb.Beta(beta=1.0, warm_up=1000), epochs=...); a decoder that can't do without them"
)
WORDS = {"good": "use the draws", "reweight": "use weighted draws", "bad": "do not use the draws"}


@dataclass(frozen=True)
class Advice:
    """What to do with the draws of a guide.

    Attributes:
        trust: What their weights are worth; "bad" also where one of the others says so.
        richer: What to do where the guide is not enough, as `richer_than` says it.
        training: What a fit says of itself; None for a pair.
        points: Whether the guide is of points without a spread.
        endless: Numbers along which the density was found not to fall off.
        modes: The mass of each mode that the search for a start has found and q does not cover.
        uncovered: Sites of which the guide can't draw all values; what to do about those says `pair.support.missed`.
        carried: What the latents of a datum carry of it, at most; None where nobody has looked, or there is no telling.
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
        """Whether something is wrong that no weight of a draw shows."""
        ruined = self.training is not None and self.training.lost > 0.0
        return bool(self.uncovered or self.modes or self.endless or ruined)

    @property
    def collapsed(self) -> bool:
        """Whether the latents carry nothing of the data, and nothing else is wrong."""
        return self.carried is not None and self.carried.nothing and not self.wrong

    def short(self) -> str:
        """In a few words: what to do with the draws."""
        if self.points:
            return "a point, which has no spread"
        if not self.collapsed:
            return f"{self.trust}: {WORDS[self.trust]}"
        use = "" if self.trust == "good" else f": {WORDS[self.trust]}"
        return f"{self.trust}{use}, but the latents carry nothing of the data"

    def words(self, moved: str = "") -> str:
        """In a sentence or two.

        Args:
            moved: Which latents weights move, in words.
        """
        if not self.collapsed:
            return self._of_draws(moved)
        use = "" if self.trust == "good" else f"{self._of_draws(moved)} "
        untrained = self.training is None or self.training.converged is False
        first = f"First {self.mend.split(', or ')[0]}. " if untrained else ""
        return (
            f"{use}The latents carry nothing of the data (posterior collapse): their guide is the prior, to {self.carried}, whatever the datum, so that its draws say nothing of it. "
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
                "Use it as a point estimate alone. Wanted: a guide with a density, as vb.fit(model, data) has it by itself, vb.laplace(model, data) around that place, "
                "guide='diagonal', or AutoNormal."
            )
        if self.endless:
            return (
                f"Do not use the draws: along {listed(self.endless[:NAMED])} the density does not fall off, so the posterior is improper, or nearly so. Wanted: a proper prior, "
                "or data that inform it."
            )
        if self.modes:
            share = " and ".join(f"{part:.2f}" for part in self.modes)
            return (
                f"From other starts there {'is another mode' if len(self.modes) == 1 else 'are other modes'}, of about {share} of the mass, which q does not cover: its draws are of "
                "one mode. Do not use them, unless the modes differ only by a relabelling, as those of a mixture's components do."
            )
        return f"Do not use the draws, weighted or not{f': {self.mend}' if self.mend else ''}."

    @property
    def mend(self) -> str:
        """What may make q better, down to what to type; empty where another sentence says it."""
        training = self.training
        if training is not None and training.lost:
            return "take a smaller learning rate, or leave it and the number of steps out, and vb.fit(pair, data) finds one"
        if self.uncovered:
            return ""
        if training is None:
            return f"train it, vb.fit(pair, data), or {self.richer}"
        if training.converged:
            return self.richer
        longer = "fit.resume()"
        return f"train longer: {longer}" if training.converged is False else f"train longer, {longer}, or {self.richer}"


def richer_than(pair: Pair, batch: Batch, tried: Sequence[tuple[str, str]] = ()) -> str:
    """What to do where a pair's guide is not enough.

    Args:
        pair: Initialised.
        batch: Rows, to see what latents there are.
        tried: As `Fit.tried` has it.
    """
    if words := richer(pair.guide, [name for name, _ in tried]):
        return words
    with pair.look(), torch.no_grad(), validation(False):
        q, p = pair.run(batch)
    if Layout(q, p).local:
        return OF_ROWS
    return OWN if any(map(is_discrete, latents(q))) else PLAIN


def history_of(trained: Any) -> pd.DataFrame | None:
    """ELBO by steps of a fit; what was trained by other means has none."""
    found = getattr(trained, "history", None)
    return found if isinstance(found, pd.DataFrame) and "elbo_per_datum" in found else None


def training_of(trained: Any) -> Training | None:
    """What a fit says of itself; None for what is none."""
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
    """What the search of a guide by a word has found beside its place: `modes` and `endless`, as `Advice` has them; nothing of other guides."""
    guide = pair.guide
    if not isinstance(guide, Whitened):
        return {}
    with pair.look(), torch.no_grad():
        return {"modes": guide.missed_modes(), "endless": guide.places.endless if guide.places else ()}


def advice_of(given: Any, problem: Problem, judged: Trust, *, own: bool) -> Advice:
    """What to do with draws that are worth so much: what the diagnosis of a fit says of its own data, where it has one, so that two verdicts never differ.

    Args:
        given: A pair, or what was trained.
        problem: Of it.
        judged: By the weights of these draws.
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
