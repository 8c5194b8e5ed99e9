"""Diagnoses whether a fit can be trusted."""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import rng
from ..arguments.kind import Optional
from ..arguments.takes import takes
from ..arguments.whole import Whole
from ..data.dataset import Batch
from ..data.spread import spread
from ..errors import Unsuitable
from ..guides import in_words
from ..inference.advice import beside, history_of, richer_than, training_of
from ..inference.carried import carried
from ..inference.draws import Draws, draws_of
from ..inference.importance import Weights, require_densities
from ..inference.linear_response import is_mean_field
from ..inference.psis import ENOUGH, Smoothed, smoothed, trust
from ..pair.pair import Pair
from ..pair.paired import Model
from ..pair.problem import Problem
from ..pair.sites import Layout, latents
from ..pair.subsample import seen_of
from ..pair.tempered import require_weights
from ..staging.many import Affordable
from ..validation import validation
from .diagnosis import Diagnosis, summary_of
from .moved import SURE, aside, moved
from .parts import parts_of
from .wider import wider_look

FEWEST = 100  # draws
# With few draws the verdict depends on the seed: with 1000 draws of a guide for centred eight schools, a million of which are worth two, one seed in eight passes.
DRAWS = Affordable(most=50_000, least=1000, room=2**31)
WEIGHTS = 2_000_000  # weights of all data together, if each datum has its own: smoothing them takes a second
ROWS = 1000  # data with local latents, enough to estimate the distribution of their k̂
OTHERS = 0.1  # quantile of the data with local latents by which they are judged: `summary_of` considers nine in ten
TAIL = 2000  # weights in a figure
PARTS, WIDER = 3, 4  # purpose of a child seed
KEPT = 1000  # elements of latents shown, those moved most


@takes(draws=Optional(Whole(FEWEST, drawn=True), "as many as cost little"))
def diagnose(
    pair: Model,
    data: Any = None,
    *,
    draws: int | None = None,
    seed: int | None = None,
    device: str = "auto",
) -> Diagnosis:
    """Judges how well a guide approximates the posterior, and says what to do with its draws.

    Draws of the guide are weighted by p(x, z)/q(z|x), and a Pareto distribution is fitted to the tail of the weights (Yao et al. 2018). The rule, tested on known posteriors, is:
    *bad* if k̂ ≥ 0.7; or the effective number of draws is below 2 % (5 % from k̂ = ⅓ on); or a weight is not finite; or the guide can't draw all values that the model
    allows; or the guide is a point; or the search for its start found another mode that it does not cover, or a density that does not decay. Otherwise *reweight* if the effective number is below two thirds, or
    the weights move a mean or change an sd by 8 % of an sd. Otherwise *good*. If only k̂ is bad, and the effective number is at least two thirds, as for flows whose tails are
    slightly off, guides chosen by name get a second check with a wider-tailed distribution (`vbayes.diagnostics.wider`): if that reaches the region of the heavy weights and finds little mass
    there, the guide is *good* after all.

    If all latents belong to single data, k̂ is computed for each datum (`Diagnosis.each`). If some are shared, there is one weight for all latents together, and `Diagnosis.parts`
    separates the latents of each datum from the shared ones.

    Weights can't detect mass that no draw has reached, such as a second mode; fits from several starts can.

    Args:
        pair: Model and guide; a fit brings its data.
        data: As for `fit`; may be new rows if the guide is amortized, that is, computes q(z|x) from a row x.
        draws: K, the number of draws from the guide; if None, 50,000, or fewer (at least 1000) if a draw is costly or each datum has its own weights.
        seed: Seed for all random numbers.
        device: As for `fit`.

    Raises:
        BadInput: Fewer than 100 draws.
        BadPair: Model and guide do not fit together, or not with the data.
        Unsuitable: There are no latents, the model subsamples its rows itself, or the guide scales a log-density (`poutine.scale`).

    References:
        Yao, Vehtari, Simpson & Gelman 2018, Yes, but did it work?: evaluating variational inference, arXiv:1802.02538.
        Vehtari, Simpson, Gelman, Yao & Gabry 2024, Pareto smoothed importance sampling, arXiv:1507.02646.

    Examples:
        >>> found = vb.diagnose(fit)
        >>> print(found.verdict())
        >>> found.plot()
    """
    seed, problem = rng.or_default(seed), Problem.of(pair, data, device=device)
    batch, rows, each = _rows(problem)
    enough = replace(DRAWS, most=max(DRAWS.least, min(DRAWS.most, WEIGHTS // each)))
    tried = getattr(pair, "tried", ())
    none = pd.DataFrame(columns=["site", "element", "moved", "sd_ratio", "se"])
    nan, history = float("nan"), history_of(pair)
    found = Diagnosis(
        "bad", float("inf"), nan, 0.0, 0, nan, nan, nan, nan, none, problem.pair.name, problem.data.name, rows,
        training=training_of(pair), guide=in_words(problem.pair.guide, tried), richer=richer_than(problem.pair, batch, tried), uncovered=problem.uncovered, **_found_beside(problem.pair), history=history,
        look=functools.partial(parts_of, problem.pair, batch, rng.child(seed, PARTS)),
    )  # fmt: skip
    try:
        require_densities(problem.pair, batch)
        made = draws_of(problem.pair, batch, draws or enough, seed)
    except Unsuitable:
        return replace(found, points=True)
    if made.frames:
        found = replace(found, carried=carried(problem.pair, batch))
    judged = _judged(found, made)
    if not _by_k_alone(judged):
        return judged
    wider = wider_look(problem.pair, batch, rng.child(seed, WIDER))
    return replace(judged, wider=wider, trust="good" if wider and wider.clears else judged.trust)


def _by_k_alone(found: Diagnosis) -> bool:
    """Whether only k̂ is bad: the effective number of draws is high enough to use them as they are."""
    other = found.advice.wrong or found.not_finite or found.each is not None
    return found.trust == "bad" and not other and found.effective >= ENOUGH * found.draws


def _judged(found: Diagnosis, made: Draws) -> Diagnosis:
    weights = smoothed(made.log_w)
    k, se, effective = (one.cpu().numpy() for one in (weights.k_hat, weights.k_hat_se, weights.effective))
    k_hat, k_hat_se, worth = summary_of(k, se, effective)
    broken = (made.log_w.isnan() | made.log_w.isposinf()).reshape(len(made), -1).any(1)
    table, judged = moved(made, weights), trust(k_hat, worth / len(made))
    if judged == "good" and (len(aside(table, SURE)) > OTHERS * len(table) if made.frames else len(aside(table))):
        judged = "reweight"
    if found.advice.wrong or broken.any():
        judged = "bad"
    sums = Weights.of_chunk(made.log_w)
    (elbo, elbo_se), (bound, bound_se) = sums.elbo(), sums.evidence()
    each = pd.DataFrame({"k_hat": k.reshape(-1), "effective": effective.reshape(-1)}) if made.frames else None
    return replace(
        found, trust=judged, k_hat=k_hat, k_hat_se=k_hat_se, effective=worth, draws=len(made),
        elbo=float(elbo.sum()), elbo_se=float(elbo_se.square().sum().sqrt()),
        log_evidence=float(bound.sum()), log_evidence_se=float(bound_se.square().sum().sqrt()),
        sites=table.head(KEPT), each=each, not_finite=int(broken.sum()), tail=_tail(made.log_w, weights),
    )  # fmt: skip


def _found_beside(pair: Pair) -> dict[str, Any]:
    """What is known about the guide itself, and what its search for a start found besides the start."""
    with pair.look(), torch.no_grad():
        alone = is_mean_field(pair.guide)
    return {"mean_field": alone, **beside(pair)}


def _tail(log_w: Tensor, weights: Smoothed) -> np.ndarray:
    """The heaviest weights of the datum with the largest k̂, relative to the mean weight."""
    flat = log_w.reshape(len(log_w), -1)
    worst = flat[:, int(weights.k_hat.reshape(-1).argmax())].nan_to_num(nan=-torch.inf)
    parts = (worst - worst.logsumexp(0)).exp() * len(worst)
    return parts.sort(descending=True).values[:TAIL].cpu().numpy()


def _rows(problem: Problem) -> tuple[Batch, int, int]:
    """All rows, or a part of them if there are many and each has its own latents; the number of rows; and the number of weights per draw."""
    pair, data, whole = problem.pair, problem.data, problem.whole
    require_weights(pair, whole)
    with pair.look(), torch.no_grad(), validation(False):
        q, p = pair.run(whole)
        if not latents(q):
            raise Unsuitable(
                f"Pair {pair.name!r} has no latents, so there is no posterior to diagnose. Wanted: a model with latents."
            )
        local = tuple(frame.size for frame in Layout(q, p).local)
    every = whole, len(data), math.prod(local)
    if local != (len(data),) or len(data) <= ROWS:
        return every
    index = spread(len(data), ROWS, problem.device)
    some = Batch(data.batch(pair.model, index).args)
    try:
        if seen_of(pair, some):
            return every
    except Exception:  # a guide with parameters for all rows may not accept fewer
        return every
    return some, ROWS, ROWS
