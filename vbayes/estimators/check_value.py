"""Whether the value of a user's own estimator is that of the bound it names: checked once, before a fit or a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats
from torch import Tensor

from ..data.dataset import Batch
from ..drawing.draw import draw_from
from ..drawing.request import Request
from ..errors import warn
from ..pair.pair import Pair
from ..summaries.card import rounded
from ..summaries.joint import joint_limit
from ..validation import values_unchecked
from .base import Estimator
from .contract import check_estimate
from .remembering import with_memory

ENOUGH = 2  # draws, if the values are equal to the reference
FEW, MANY = 8, 32  # draws, if they differ; and if they differ by `SUSPECT` standard errors
SUSPECT = 3.0  # as one right value in fifty
CHANCE = 1e-6  # of a warning about a right value
ROUNDING = 1e-4  # of a value, what sums in single precision may lose
FIXED = {"log_p_fixed", "log_q_fixed"}
UNLIKE = {"steps", "enumerated"}  # draws whose log-weights are not those of the pair


def check_value(pair: Pair, batch: Batch, method: object) -> None:
    """Warns if the values of an estimator that is not from vbayes are not on average the bound that it names.

    The reference is the mean of log w (less `kl`), or `bound_of`, of the same draws. Most right values are equal to it, and two draws show that. Others differ by noise with mean zero:
    eight draws are made, and 32 if these look odd; if the noise is normal, they are warned about with a probability of at most 1e-6. Nothing is known, and said, of a value with another
    `bound` than the ELBO and without `bound_of`. The gradient is not looked at, as few draws say little about it; see `vb.check_estimator`.

    Args:
        pair: Initialised; not changed.
        batch: What a step sees.
        method: Any estimator.

    Raises:
        BadEstimator: What `estimate` returns breaks the contract.
    """
    if not isinstance(method, Estimator) or _built_in(type(method)) or not _known(method):
        return
    gaps: list[float] = []
    for number in range(MANY):
        value, right = _value_and_bound(pair.copy(), batch, method, number)
        if not math.isfinite(value - right):
            return  # which the fit itself will say
        gap = value - right
        gaps.append(0.0 if abs(gap) <= ROUNDING * max(1.0, abs(right)) else gap)
        if len(gaps) == ENOUGH and not any(gaps) or len(gaps) == FEW and not _off(gaps, SUSPECT):
            return
    if _off(gaps, joint_limit(1, level=CHANCE, freedom=MANY - 1)):
        warn(_words(method, value, right, float(np.mean(gaps)), float(stats.sem(gaps))))


def _off(gaps: Sequence[float], limit: float) -> bool:
    return bool(abs(np.mean(gaps)) > limit * stats.sem(gaps))


def _built_in(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def _known(method: Estimator) -> bool:
    """Whether what its value estimates is known from log w."""
    of_weights = type(method).bound_of is not Estimator.bound_of and "kl" not in method.needs
    elbo = method.bound == "ELBO" and type(method).objective is Estimator.objective
    return not (method.needs & UNLIKE) and (elbo or of_weights)


def _value_and_bound(pair: Pair, batch: Batch, method: Estimator, number: int) -> tuple[float, float]:
    """An estimate for the whole data, and the bound of the same draws, in nats."""
    own, asked = with_memory(method, pair, batch), method.request
    # Beside `kl`, these leave out the sites that it has.
    fields = {"log_p", "log_q"} if {"log_p", "log_q"} <= asked.needs or "kl" in asked.needs else FIXED
    request = Request.of(asked.needs | fields, asked.requires, asked.families)
    with pair.look(number), values_unchecked():
        model, guide = pair.scaled(batch.total)
        particles = draw_from(model, guide, batch.args, {}, own.num_particles, request, noise=own.noise)
        log_p, log_q = (getattr(particles, name) for name in sorted(fields))
        log_w: Tensor = (log_p - log_q).detach()
        bound = log_w.mean(0) if own.bound == "ELBO" else own.bound_of(log_w)
        bound = bound - particles.kl.detach() if "kl" in asked.needs else bound
        scale = float(particles.scale)
        found = own.estimate(particles)
        check_estimate(own, found, particles)
        return float(found.value.sum()) * scale, float(bound.sum()) * scale


def _words(method: Estimator, value: float, right: float, mean: float, se: float) -> str:
    name, bound = type(method).__name__, "the ELBO" if method.bound == "ELBO" else f"its bound_of for {method.bound!r}"
    return (
        f"The value of {name} is not {bound}, which it is by its `bound`: in {MANY} draws they are {rounded(mean, 4)} ± {rounded(se, 2)} nats apart (in the last one {rounded(value, 5)}, and "
        f"{rounded(right, 5)} by the same log-weights). Histories and convergence follow this value. Fix: return the bound as the value, as in vb.Estimate(log_w.mean(0).detach(), surrogate), or say "
        f"what the value is, by `bound` with `bound_of` or an `objective`. vb.check_estimator({name}) tests the gradient too."
    )
